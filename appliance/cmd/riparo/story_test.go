package main

import (
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// The whole story, told with verbs only, and as a script sees it: JSON.
func TestTheVerbsTellTheWholeStory(t *testing.T) {
	t.Parallel() // it waits most of the time
	d := newDaemon(t)
	made := must[api.Claimed](t, d.claim(t)...)
	if made.User != "admin" || made.Token == nil || made.Token.Role != store.Administrator {
		t.Fatalf("claimed %+v; want the administrator admin and a token", made)
	}
	d.token = made.Token.Secret

	for _, site := range []string{"milano", "torino"} {
		must[api.SiteBody](t, d.at("sites", "add", site, "--kind", "lab", "--address", "0")...)
	}
	ref := d.machine(t, "WEB01", 1)
	seen := must[struct{ Sites []api.Discovered }](t, d.at("sites", "discover")...)
	if len(seen.Sites) != 2 || len(seen.Sites[0].Machines) != 1 || seen.Sites[0].Machines[0].Ref != ref {
		t.Fatalf("discovered %+v; want WEB01 at milano", seen)
	}
	policy := must[replication.Policy](t, d.at("policies", "save", "quick", "--copy-every", "5s", "--app-every", "0", "--keep", "1h:all")...)
	if policy.CopyFrequency != replication.MinCopyFrequency || policy.Retention.String() != "1h:all" || policy.FreezeLimit != replication.DefaultPolicy().FreezeLimit {
		t.Fatalf("saved %+v", policy)
	}
	if safe := must[replication.Policy](t, d.at("policies", "save", "safe", "--lock-for", "30d")...); safe.LockFor != 30*24*time.Hour {
		t.Errorf("saved %+v: want points locked for 30 days", safe)
	}

	// ask asks for a verb, waits for its job and wants the machine in a state.
	ask := func(state lifecycle.State, args ...string) {
		t.Helper()
		a := must[asked](t, d.at(append(args, "--wait")...)...)
		if a.Name != "WEB01" || a.State != store.Succeeded || a.Job == "" || len(a.Steps) == 0 {
			t.Fatalf("riparo %q: got %+v", args, a)
		}
		if state == "" {
			return
		}
		if m := must[api.Machine](t, d.at("machines", "show", "WEB01")...); m.State != state {
			t.Fatalf("riparo %q: the machine is %q, want %q", args, m.State, state)
		}
	}
	ask(lifecycle.Protected, "protect", "--site", "milano", "--machine", "WEB01", "--target", "torino", "--policy", "quick", "--network", "production", "--boot-sign", "serving")
	points := must[struct{ Points []replication.RecoveryPoint }](t, d.at("points", "web01")...).Points
	if len(points) == 0 {
		t.Fatal("a protected machine has no recovery point")
	}
	first := string(points[len(points)-1].ID)

	ask(lifecycle.Protected, "test-failover", "WEB01", "--point", first)
	if m := must[api.Machine](t, d.at("machines", "show", "WEB01")...); m.Test == nil || string(m.Test.Point) != first || m.BootSign != "serving" {
		t.Fatalf("test %+v, boot sign %q; want a test of %s", m.Test, m.BootSign, first)
	}
	ask(lifecycle.Protected, "test-failover", "cleanup", "WEB01", "--notes", "it booted")
	if m := must[api.Machine](t, d.at("machines", "show", "WEB01")...); m.LastDrill == nil || m.LastDrill.Notes != "it booted" {
		t.Fatalf("the drill was kept as %+v", m.LastDrill)
	}

	must[asked](t, d.at("pause", "WEB01", "--notes", "patch day")...)
	if out := d.do(t, "machines", "show", "WEB01"); !strings.Contains(out, "protected, paused") {
		t.Errorf("a paused machine is shown as\n%s", out)
	}
	must[asked](t, d.at("resume", "WEB01")...)

	ask(lifecycle.CommitPending, "failover", "WEB01", "--unplanned", "--confirm", "WEB01")
	ask(lifecycle.CommitPending, "change-point", "WEB01", "--point", first)
	ask(lifecycle.Committed, "commit", "WEB01")
	ask(lifecycle.ProtectedReverse, "reverse", "WEB01")
	ask(lifecycle.Protected, "failback", "WEB01", "--confirm", "WEB01")
	ask(lifecycle.CommitPending, "failover", "WEB01", "--planned", "--confirm", "WEB01")
	ask(lifecycle.Committed, "commit", "WEB01")
	ask("", "disable", "WEB01", "--confirm", "WEB01", "--keep-points")
	if kept := must[struct{ Kept []api.Kept }](t, d.at("kept")...).Kept; len(kept) != 1 || kept[0].Name != "WEB01" || kept[0].Points == 0 || kept[0].By != "token command line" {
		t.Errorf("kept %+v: want the points of WEB01", kept)
	}
	if out := d.do(t, "kept"); !strings.Contains(out, "WEB01") || !strings.Contains(out, "points") {
		t.Errorf("what is kept is shown as\n%s", out)
	}
	must[map[string]any](t, d.at("kept", "erase", "WEB01", "--confirm", "WEB01")...)
	if out := d.do(t, "kept"); !strings.Contains(out, "keeps nothing") {
		t.Errorf("after it was erased, what is kept is shown as\n%s", out)
	}
	if left := must[struct{ Machines []api.Machine }](t, d.at("machines")...); len(left.Machines) != 0 {
		t.Fatalf("still protected: %+v", left)
	}

	jobs := must[struct{ Jobs []store.Job }](t, d.at("jobs", "--limit", "20")...).Jobs
	if len(jobs) != 11 || jobs[0].Kind != string(lifecycle.DisableProtection) || jobs[10].Kind != string(lifecycle.EnableProtection) {
		t.Errorf("%d jobs, want 11 from disable-protection back to enable-protection", len(jobs))
	}
	for _, j := range jobs {
		if j.State != store.Succeeded || j.Actor != "token command line" {
			t.Errorf("job %s (%s): %s, by %s", j.ID, j.Kind, j.State, j.Actor)
		}
	}
	events := must[struct{ Events []store.Event }](t, d.at("events", "--limit", "1000")...).Events
	if len(events) < 2*len(jobs) || events[0].Time.After(events[len(events)-1].Time) {
		t.Errorf("%d events; want two and more for each job, the newest last", len(events))
	}
	for _, site := range []string{"milano", "torino"} {
		must[map[string]string](t, d.at("sites", "remove", site)...)
	}
}
