package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"riparo/replication/lifecycle"
	"riparo/store"
)

// unfinished is the ID of the one job that has not ended.
func (d *daemon) unfinished(t *testing.T) string {
	t.Helper()
	jobs := must[struct{ Jobs []store.Job }](t, d.at("jobs", "--state", "unfinished")...).Jobs
	if len(jobs) != 1 {
		t.Fatalf("%d jobs have not ended, want 1", len(jobs))
	}
	return jobs[0].ID
}

func TestAFailedJobSaysWhyAndGoesOnWhenRestarted(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	d.protected(t, "WEB01", 1)
	d.site(t, "torino").SetAccountRefused(true)
	status, out, errs := call(t.Context(), d.at("test-failover", "WEB01", "--wait", "--json")...)
	_, cause, effect, remedy := problemOf(t, out)
	if status != statusFailed || !strings.Contains(cause, "(test failover of WEB01) failed: ") || effect == "" || !strings.Contains(remedy, "riparo jobs restart ") {
		t.Fatalf("status %d, cause %q, effect %q, remedy %q", status, cause, effect, remedy)
	}
	if !strings.Contains(errs, "choose the recovery point: done") || !strings.Contains(errs, "create the test machine: failed") {
		t.Errorf("the steps were told as\n%s", errs)
	}
	job := regexp.MustCompile(`riparo jobs restart ([^ ` + "`" + `]+)`).FindStringSubmatch(remedy)[1]
	if out := d.do(t, "jobs", "show", job); !strings.Contains(out, "state  failed") || !strings.Contains(out, "\ncause: ") || !strings.Contains(out, "\nremedy: ") {
		t.Errorf("the failed job is shown as\n%s", out)
	}
	if status, _, errs := call(t.Context(), d.at("jobs", "answer", job, "yes")...); status != statusFailed || !strings.Contains(errs, "does not wait for an answer") {
		t.Errorf("an answer that was not asked for: status %d, %s", status, errs)
	}

	d.site(t, "torino").SetAccountRefused(false)
	if out := d.do(t, "jobs", "restart", job, "--wait"); !strings.Contains(out, "is succeeded after") {
		t.Errorf("restarted: %s", out)
	}
	if status, _, errs := call(t.Context(), d.at("jobs", "restart", job)...); status != statusFailed || !strings.Contains(errs, "cannot be restarted") || !strings.Contains(errs, "remedy: ") {
		t.Errorf("restarted again: status %d, %s", status, errs)
	}
}

func TestAJobThatWaitsIsToldAndCanBeCanceled(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	d.protected(t, "WEB01", 1)
	d.site(t, "torino").SetUnreachable(true)
	waiting := begin(t, d.at("test-failover", "WEB01", "--wait")...)
	waiting.err.hears(t, "attempt 1 did not succeed; the next one is at ")
	job := d.unfinished(t)

	interrupted := begin(t, d.at("jobs", "show", job, "--follow")...)
	interrupted.err.hears(t, "did not succeed")
	interrupted.stop()
	interrupted.ends(t, statusFailed)
	if told := interrupted.err.String(); !strings.Contains(told, "effect: the job goes on in the appliance") {
		t.Errorf("an interrupted wait is told as\n%s", told)
	}

	d.site(t, "torino").SetUnreachable(false) // a cancel takes back what is there
	if out := d.do(t, "jobs", "cancel", job, "--wait"); !strings.Contains(out, "is canceled after") {
		t.Errorf("canceled: %s", out)
	}
	waiting.ends(t, statusFailed)
	if told := waiting.err.String(); !strings.Contains(told, "was canceled") || !strings.Contains(told, "effect: what it had done was taken back") {
		t.Errorf("who waited was told\n%s", told)
	}
}

func TestAFollowedJobOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	d.protected(t, "WEB01", 1)
	d.site(t, "torino").SetUnreachable(true)
	waiting := begin(t, d.at("test-failover", "WEB01", "--wait", "--json")...)
	waiting.err.hears(t, "attempt 1 did not succeed")
	d.stop()
	waiting.err.hears(t, "trying again")
	// The lab of the new daemon can be reached.
	startDaemon(t, d.data, strings.TrimSuffix(strings.TrimPrefix(d.URL, "https://"), "/"))
	waiting.ends(t, statusDone)
	var a asked
	if err := json.Unmarshal([]byte(waiting.out.String()), &a); err != nil || a.State != store.Succeeded || a.Verb != lifecycle.TestFailover {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestFollowedEventsAreToldAsTheyHappen(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	d.protected(t, "WEB01", 1)
	d.protected(t, "SQL01", 2)
	people := begin(t, d.at("events", "--follow", "--machine", "WEB01")...)
	program := begin(t, d.at("events", "--follow", "--json", "--limit", "1")...)
	people.out.hears(t, "Enable protection")
	program.out.hears(t, "\n")
	d.do(t, "pause", "SQL01")
	d.do(t, "pause", "WEB01", "--notes", "patch day")
	people.out.hears(t, "replication was paused by token command line")
	program.out.hears(t, `"name":"WEB01"`)
	for _, v := range []*verb{people, program} {
		v.stop()
		v.ends(t, statusDone)
	}
	if strings.Contains(people.out.String(), "SQL01") {
		t.Errorf("events of another machine were told:\n%s", people.out)
	}
	for line := range strings.Lines(program.out.String()) {
		var e store.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ID == "" {
			t.Errorf("%q is not an event: %v", line, err)
		}
	}
}

// On a terminal the step under way is drawn over, and nothing of it is left.
func TestProgressIsDrawnOnATerminalAndToldElsewhere(t *testing.T) {
	begun := time.Now()
	job := store.Job{ID: "j", Kind: "enable-protection", State: store.InProgress, Steps: []store.Step{
		{Name: "check prerequisites", State: store.Succeeded, Started: begun, Ended: begun.Add(1500 * time.Millisecond)},
		{Name: "initial replication", State: store.InProgress, Started: begun, Done: 25 << 20, Total: 100 << 20},
		{Name: "finalize protection", State: store.NotStarted},
	}}
	for _, interactive := range []bool{true, false} {
		var errs bytes.Buffer
		n := &narration{terminal: &terminal{err: &errs, interactive: interactive}, steps: map[string]time.Time{}}
		n.tell(job)
		n.tell(job)
		bar := "\r\x1b[K  2/3 initial replication " + strings.Repeat("█", barWidth/4) + strings.Repeat("░", barWidth-barWidth/4) + " 25 %, 25.0 MiB of 100.0 MiB"
		want := "  check prerequisites: done in 1.5 s\n"
		if interactive {
			want += bar + bar
		}
		if errs.String() != want {
			t.Errorf("interactive %v: got %q, want %q", interactive, errs.String(), want)
		}
		errs.Reset()
		n.line("done")
		if want := map[bool]string{true: "\r\x1b[Kdone\n", false: "done\n"}[interactive]; errs.String() != want {
			t.Errorf("interactive %v: got %q, want %q", interactive, errs.String(), want)
		}
	}
}

func TestWhatAJobAsksIsToldOnce(t *testing.T) {
	var errs bytes.Buffer
	n := &narration{terminal: &terminal{err: &errs}, steps: map[string]time.Time{}}
	job := store.Job{ID: "j1", State: store.WaitingForInput, Question: "go on without the source?"}
	for range 3 {
		n.tell(job)
	}
	if got, want := errs.String(), "  the job asks: go on without the source?\n  answer with `riparo jobs answer j1 TEXT`\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A job that waits for something has not failed, and says what there is to do.
func TestWhatAJobWaitsForIsToldOnce(t *testing.T) {
	var errs, out bytes.Buffer
	n := &narration{terminal: &terminal{err: &errs}, steps: map[string]time.Time{}}
	job := store.Job{ID: "j1", State: store.WaitingToRetry, NextTry: time.Now().Add(time.Hour), Error: &store.Finding{Cause: "replication of WEB01 is paused", Action: "resume it"}}
	for range 3 {
		n.tell(job)
	}
	if got, want := errs.String(), "  the job waits: replication of WEB01 is paused; resume it\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if printJob(&out, job); strings.Contains(out.String(), "next try") || !strings.Contains(out.String(), "is paused") {
		t.Errorf("it is shown as\n%s", out.String())
	}
}

// Everything that is listed is listed for people too.
func TestListsAreForPeopleToo(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	id := string(d.protected(t, "WEB01", 1))
	d.machine(t, "ERP01", 2)
	for line, want := range map[string][]string{
		"machines":                               {"machine", "WEB01", id, "healthy", "milano → torino", "quick"},
		"machines list":                          {"WEB01"},
		"machines show " + id:                    {"machine", "disk vda", "16.0 MiB", "can be done now", "test-failover"},
		"points web01":                           {"point", "consistency", "crash"},
		"jobs":                                   {"job", "enable-protection", "succeeded", "4/4", "token command line"},
		"jobs list --limit 1":                    {"enable-protection"},
		"events --machine " + id:                 {"info", "WEB01", "Enable protection"},
		"policies":                               {"policy", "default", "quick", "1h:all,24h:5m,15d:1h", "no limit"},
		"policies show quick":                    {"copy every", "5s", "off"},
		"sites":                                  {"site", "milano", "torino", "lab", "reachable"},
		"sites discover":                         {"WEB01", "protected as " + id, "ERP01", "running", "32.0 MiB"},
		"tokens":                                 {"command line", "administrator", "by", "admin ", "never"},
		"jobs --machine WEB01 --state succeeded": {"enable-protection"},
		"jobs --state failed":                    {"There is no such job"},
	} {
		out := d.do(t, strings.Fields(line)...)
		for _, word := range want {
			if !strings.Contains(out, word) {
				t.Errorf("riparo %s does not tell %q:\n%s", line, word, out)
			}
		}
	}
	d.site(t, "torino").SetUnreachable(true)
	status, out, errs := call(t.Context(), d.at("sites", "discover", "--json")...)
	if status != statusFailed || !json.Valid([]byte(out)) || !strings.Contains(out, "WEB01") || !strings.Contains(errs, "site torino: ") || !strings.Contains(errs, "effect: ") {
		t.Errorf("a site that is away: status %d\n%s\n%s", status, out, errs)
	}
}
