package notify

import (
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

func TestEveryRuleHasItsLimit(t *testing.T) {
	rules := store.DefaultRules()
	machine := func(change func(m *store.Machine)) World {
		m := store.Machine{ID: "m-1", Name: "web01", Policy: "gold", State: lifecycle.Protected, Created: noon, LastPoint: &replication.RecoveryPoint{Time: noon}}
		change(&m)
		return World{Now: noon, Free: -1, Machines: []store.Machine{m}, Policies: map[string]replication.Policy{"gold": {RPOThreshold: 10 * time.Minute}}}
	}
	job := func(j store.Job, moved time.Time) World {
		return World{Now: noon, Free: -1, Jobs: []Job{{Job: j, Moved: moved}}}
	}
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	for _, row := range []struct {
		name  string
		world World
		want  string // kind and severity; empty: nothing
	}{
		{"a fresh point", machine(func(*store.Machine) {}), ""},
		{"a point at the limit", machine(func(m *store.Machine) { m.LastPoint.Time = ago(10 * time.Minute) }), ""},
		{"a point beyond it", machine(func(m *store.Machine) { m.LastPoint.Time = ago(10*time.Minute + 1) }), "rpo.breached warning"},
		{"a point beyond it before the clock was set back", machine(func(m *store.Machine) {
			m.LastPoint.Time = ago(-time.Hour)
			m.Health.Findings = append(m.Health.Findings, store.Finding{Code: RPOBreached, Level: string(store.Warning)})
		}), "rpo.breached warning"},
		{"a point far beyond it", machine(func(m *store.Machine) { m.LastPoint.Time = ago(41 * time.Minute) }), "rpo.breached critical"},
		{"an old point of a machine that runs elsewhere", machine(func(m *store.Machine) { m.LastPoint.Time, m.State = ago(time.Hour), lifecycle.Committed }), ""},
		{"no limit agreed", machine(func(m *store.Machine) { m.LastPoint.Time, m.Policy = ago(time.Hour), "none" }), ""},
		{"no point yet", machine(func(m *store.Machine) { m.LastPoint = nil }), ""},
		{"a warning", machine(func(m *store.Machine) {
			m.Health = store.Health{Level: store.Warning, Findings: []store.Finding{{Level: string(store.Warning)}}}
		}), ""},
		{"a critical finding", machine(func(m *store.Machine) {
			m.Health = store.Health{Level: store.Critical, Findings: []store.Finding{{Level: string(store.Critical), Cause: "both run"}}}
		}), "health.critical critical"},
		{"tested in time", machine(func(m *store.Machine) {
			m.Created, m.LastDrill = ago(365*24*time.Hour), &store.DrillResult{Passed: true, Finished: ago(lifecycle.DrillInterval)}
		}), ""},
		{"tested too long ago", machine(func(m *store.Machine) {
			m.LastDrill = &store.DrillResult{Passed: true, Finished: ago(lifecycle.DrillInterval + time.Hour)}
		}), "drill.due info"},
		{"a test that did not pass counts for nothing", machine(func(m *store.Machine) {
			m.Created, m.LastDrill = ago(lifecycle.DrillInterval+time.Hour), &store.DrillResult{Finished: ago(time.Hour)}
		}), "drill.due info"},
		{"a site away for a moment", World{Now: noon, Free: -1, Sites: []Site{{Name: "Roma", Away: ago(rules.SiteAway - 1)}}}, ""},
		{"a site away", World{Now: noon, Free: -1, Sites: []Site{{Name: "Roma", Away: ago(rules.SiteAway)}}}, "site.away critical"},
		{"a site that answers", World{Now: noon, Free: -1, Sites: []Site{{Name: "Roma"}}}, ""},
		{"a failed job", job(store.Job{ID: "j", State: store.Failed, Ended: ago(time.Hour)}, noon), "job.failed warning"},
		{"a job that failed long ago", job(store.Job{ID: "j", State: store.Failed, Ended: ago(failedFor)}, noon), ""},
		{"a canceled job", job(store.Job{ID: "j", State: store.Canceled, Ended: noon}, noon), ""},
		{"a job that moves", job(store.Job{ID: "j", State: store.InProgress}, ago(rules.NoProgress-1)), ""},
		{"a job that stands still", job(store.Job{ID: "j", State: store.InProgress}, ago(rules.NoProgress)), "job.stuck warning"},
		{"a job that only tries again", job(store.Job{ID: "j", State: store.WaitingToRetry}, ago(rules.NoProgress)), "job.stuck warning"},
		{"a job that waits for somebody", job(store.Job{ID: "j", State: store.WaitingForInput}, ago(rules.NoProgress)), ""},
		{"a vault with room", World{Now: noon, Stored: 74, Free: 26}, ""},
		{"a vault at the first mark", World{Now: noon, Stored: 75, Free: 25}, "vault.full warning"},
		{"a vault at the second", World{Now: noon, Stored: 85, Free: 15}, "vault.full critical"},
		{"a vault of unknown size", World{Now: noon, Stored: 100, Free: -1}, ""},
		{"a backup in time", World{Now: noon, Free: -1, Plan: store.BackupPlan{Every: 24 * time.Hour}, Saved: store.Saved{Time: ago(25 * time.Hour)}}, ""},
		{"a backup overdue", World{Now: noon, Free: -1, Plan: store.BackupPlan{Every: 24 * time.Hour}, Saved: store.Saved{Time: ago(25*time.Hour + 1)}}, "backup.failed warning"},
		{"a backup that failed", World{Now: noon, Free: -1, Plan: store.BackupPlan{Every: 24 * time.Hour}, Saved: store.Saved{Time: noon, Problem: &store.Finding{}}}, "backup.failed warning"},
		{"no backup planned", World{Now: noon, Free: -1, Saved: store.Saved{Time: ago(9999 * time.Hour)}}, ""},
		{"a certificate with a month left", World{Now: noon, Free: -1, Certificate: noon.Add(certificateWarn)}, ""},
		{"a certificate with less", World{Now: noon, Free: -1, Certificate: noon.Add(certificateWarn - 1)}, "certificate.ending warning"},
		{"a certificate with days left", World{Now: noon, Free: -1, Certificate: noon.Add(certificateBad - 1)}, "certificate.ending critical"},
		{"a clock that is ahead", World{Now: noon, Free: -1, Clock: &replication.Problem{Cause: "it is ahead"}}, "clock.ahead warning"},
		{"a message that was given up", World{Now: noon, Free: -1, Lost: []store.Delivery{{Channel: "mail:a@b.c"}}}, "message.lost warning"},
	} {
		var got []string
		for _, a := range Judge(row.world, rules) {
			got = append(got, a.Kind+" "+a.Severity)
		}
		if strings.Join(got, ", ") != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
		off := rules
		off.Off = Kinds()
		if left := Judge(row.world, off); len(left) > 0 {
			t.Errorf("%s: with every rule off: %+v", row.name, left)
		}
	}
}

func TestAFailedJobIsOverWhenAnotherFollows(t *testing.T) {
	s := newStage(t)
	s.put(func(tx *store.Tx) error {
		if err := tx.Machines().Put(store.Machine{ID: "m-1", Name: "web01", Created: noon}); err != nil {
			return err
		}
		return tx.Jobs().Put(store.Job{ID: "20261126T110000.000Z-1", Kind: "test-failover", Machine: "m-1", Name: "web01", State: store.Failed, Ended: noon, Error: &store.Finding{Cause: "it did not boot"}})
	})
	s.pass(time.Minute)
	if _, active := s.alerts(); len(active) != 1 || active[0].Kind != JobFailed || active[0].Cause != "it did not boot" {
		t.Fatalf("alerts %+v, want one of the failed job", active)
	}
	s.put(func(tx *store.Tx) error {
		return tx.Jobs().Put(store.Job{ID: "20261126T120000.000Z-2", Kind: "test-failover", Machine: "m-1", State: store.Succeeded, Ended: noon})
	})
	s.pass(2 * time.Minute)
	if all, active := s.alerts(); len(active) != 0 || len(all) != 1 || all[0].Ended.IsZero() {
		t.Errorf("after a success: all %+v", all)
	}
}

// TestAJobThatWaitsForNoFailureStandsNotStill: somebody has paused it, and knows.
func TestAJobThatWaitsForNoFailureStandsNotStill(t *testing.T) {
	s := newStage(t)
	put := func(state store.JobState, attempt int) {
		s.put(func(tx *store.Tx) error {
			return tx.Jobs().Put(store.Job{ID: "j-1", Kind: "enable-protection", State: state, Attempt: attempt, Steps: []store.Step{{Name: "copy", State: store.InProgress, Done: 1, Total: 100}}})
		})
	}
	for range 5 { // it looks now and then whether it can go on
		put(store.InProgress, 0)
		s.pass(time.Minute)
		put(store.WaitingToRetry, 0)
		s.pass(29 * time.Minute)
	}
	put(store.InProgress, 0)
	s.pass(29 * time.Minute)
	if all, _ := s.alerts(); len(all) != 0 {
		t.Fatalf("a job that waits is told to stand still: %+v", all)
	}
	put(store.WaitingToRetry, 3)
	s.pass(31 * time.Minute)
	if _, active := s.alerts(); len(active) != 1 || active[0].Kind != JobStuck {
		t.Fatalf("alerts %+v, want one of the job that fails again and again", active)
	}
}

func TestAJobStandsStillOnlyWhenNothingMoves(t *testing.T) {
	s := newStage(t)
	put := func(done int64) {
		s.put(func(tx *store.Tx) error {
			return tx.Jobs().Put(store.Job{ID: "j-1", Kind: "enable-protection", State: store.InProgress, Steps: []store.Step{{Name: "copy", State: store.InProgress, Done: done, Total: 100}}})
		})
	}
	put(1)
	s.pass(25 * time.Minute)
	put(2)
	s.pass(29 * time.Minute)
	if _, active := s.alerts(); len(active) != 0 {
		t.Fatalf("a job that moved is told to stand still: %+v", active)
	}
	s.pass(2 * time.Minute)
	if _, active := s.alerts(); len(active) != 1 || active[0].Kind != JobStuck {
		t.Fatalf("alerts %+v, want one of the job that stands still", active)
	}
	put(3)
	s.pass(2 * time.Minute)
	if _, active := s.alerts(); len(active) != 0 {
		t.Errorf("the job moves and the alert stands: %+v", active)
	}
}
