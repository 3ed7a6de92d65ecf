package lifecycle_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/replication/lifecycle"
)

// matrix is the table of the field, by hand: scenario | failovers forward |
// failovers in reverse | marks. t test, p planned, u unplanned; r reverse
// replication by itself, c commit by itself, a by array, m migration, s sync first,
// v failback to VMware only.
const matrix = `
vmware-azure       | t-u | -p- | r s
physical-azure     | t-u | -p- | r v
hyperv-azure       | tpu | -p- | r s
hyperv-vmm-azure   | tpu | -p- | r s
vmware-secondary   | t-u | -p- | s
physical-secondary | t-u | -p- | v
vmm-secondary      | tpu | tpu | s
vmm-san            | tpu | tpu | c a s
azure-azure        | t-u | --- | m s
aws-azure          | t-u | --- | m s
kvm-kvm            | tpu | -p- | s
lab                | tpu | -p- | s
`

type row struct{ scenario, forward, reverse, marks string }

func rows(t *testing.T) []row {
	t.Helper()
	var all []row
	for line := range strings.Lines(strings.TrimSpace(matrix)) {
		part := strings.Split(line, "|")
		if len(part) != 4 {
			t.Fatalf("the test's line %q does not parse", line)
		}
		for i := range part {
			part[i] = strings.TrimSpace(part[i])
		}
		all = append(all, row{part[0], part[1], part[2], part[3]})
	}
	return all
}

func TestTheMatrixOfScenariosIsThatOfTheField(t *testing.T) {
	all := rows(t)
	if got := lifecycle.Scenarios(); len(got) != len(all) {
		t.Fatalf("%d scenarios, want %d", len(got), len(all))
	}
	letters := func(f lifecycle.Failovers) string {
		text := []byte("---")
		for i, has := range []bool{f.Test, f.Planned, f.Unplanned} {
			if has {
				text[i] = "tpu"[i]
			}
		}
		return string(text)
	}
	for i, want := range all {
		rules, err := lifecycle.RulesFor(lifecycle.Scenario(want.scenario))
		if err != nil {
			t.Error(err)
			continue
		}
		if rules != lifecycle.Scenarios()[i] {
			t.Errorf("%s stands at another place of the list", want.scenario)
		}
		var marks []string
		for _, m := range []struct {
			letter string
			set    bool
		}{{"r", rules.AutoReverse}, {"c", rules.AutoCommit}, {"a", rules.ByArray}, {"m", rules.Migration}, {"s", rules.SyncFirst}, {"v", rules.FailbackTo == "vmware"}} {
			if m.set {
				marks = append(marks, m.letter)
			}
		}
		got := row{want.scenario, letters(rules.Forward), letters(rules.Reverse), strings.Join(marks, " ")}
		if got != want {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
	if _, err := lifecycle.RulesFor("moon-mars"); err == nil {
		t.Error("an unknown scenario has rules")
	}
}

// Every scenario × direction × verb, at the moment when the verb would fit best.
func TestEveryVerbInEveryScenarioAndDirection(t *testing.T) {
	for _, r := range rows(t) {
		for _, direction := range []lifecycle.Direction{lifecycle.Forward, lifecycle.Reverse} {
			failovers := r.forward
			if direction == lifecycle.Reverse {
				failovers = r.reverse
			}
			has := func(letter string) bool { return strings.Contains(failovers, letter) }
			comesBack := strings.Contains(r.reverse, "p")
			array, migration := strings.Contains(r.marks, "a"), strings.Contains(r.marks, "m")
			home := lifecycle.Protected
			if direction == lifecycle.Reverse {
				home = lifecycle.ProtectedReverse
			}
			for _, c := range []struct {
				verb  lifecycle.Verb
				state lifecycle.State
				want  bool
			}{
				{lifecycle.EnableProtection, lifecycle.Unprotected, true},
				{lifecycle.DisableProtection, home, true},
				{lifecycle.TestFailover, home, has("t")},
				{lifecycle.PlannedFailover, home, has("p") && direction == lifecycle.Forward},
				{lifecycle.UnplannedFailover, home, has("u")},
				{lifecycle.ChangePoint, lifecycle.CommitPending, !strings.Contains(r.marks, "c")},
				{lifecycle.Commit, lifecycle.CommitPending, true},
				{lifecycle.CompleteMigration, lifecycle.Committed, migration},
				{lifecycle.ReverseReplicate, lifecycle.Committed, comesBack},
				{lifecycle.Failback, lifecycle.ProtectedReverse, comesBack},
				{lifecycle.Resynchronize, home, !array},
				{lifecycle.Pause, home, !array},
				{lifecycle.CleanupTest, home, true},
			} {
				s := lifecycle.Situation{Scenario: lifecycle.Scenario(r.scenario), Direction: direction, State: c.state, HasPoints: true}
				if c.verb == lifecycle.CleanupTest {
					s.Drill = lifecycle.DrillRunning
				}
				why := lifecycle.Why(s, c.verb)
				if got := why == ""; got != c.want {
					t.Errorf("%s %s, %s while %s: got %t (%s), want %t", r.scenario, direction, c.verb, c.state, got, why, c.want)
				}
			}
			paused := lifecycle.Situation{Scenario: lifecycle.Scenario(r.scenario), Direction: direction, State: home, Paused: true}
			if got := lifecycle.Why(paused, lifecycle.Resume) == ""; got == array {
				t.Errorf("%s %s: resume allowed: %t", r.scenario, direction, got)
			}
		}
	}
}

// What a KVM machine with points offers in each state, nothing else going on.
func TestWhatIsAllowedInEachState(t *testing.T) {
	want := map[lifecycle.State]string{
		lifecycle.Unprotected:        "enable-protection",
		lifecycle.Enabling:           "disable-protection",
		lifecycle.InitialReplication: "pause disable-protection",
		lifecycle.Finalizing:         "disable-protection",
		lifecycle.Protected:          "test-failover planned-failover unplanned-failover resynchronize pause disable-protection",
		lifecycle.ResyncRequired:     "test-failover unplanned-failover resynchronize pause disable-protection",
		lifecycle.Resyncing:          "test-failover unplanned-failover pause disable-protection",
		lifecycle.FailingOver:        "",
		lifecycle.CommitPending:      "change-recovery-point commit",
		lifecycle.ChangingPoint:      "",
		lifecycle.Committed:          "reverse-replicate disable-protection",
		lifecycle.Reversing:          "pause disable-protection",
		lifecycle.ProtectedReverse:   "failback resynchronize pause disable-protection",
		lifecycle.FailingBack:        "",
		lifecycle.Migrated:           "disable-protection",
		lifecycle.Disabling:          "disable-protection",
	}
	for _, state := range lifecycle.States() {
		s := lifecycle.Situation{Scenario: lifecycle.KVMToSecondary, State: state, HasPoints: true}
		if state == lifecycle.ProtectedReverse {
			s.Direction = lifecycle.Reverse
		}
		var got []string
		for _, v := range lifecycle.Allows(s) {
			got = append(got, string(v))
		}
		if strings.Join(got, " ") != want[state] {
			t.Errorf("%s:\ngot  %s\nwant %s", state, strings.Join(got, " "), want[state])
		}
	}
}

func TestWhatChangesWhatIsAllowed(t *testing.T) {
	base := lifecycle.Situation{Scenario: lifecycle.Lab, Direction: lifecycle.Forward, State: lifecycle.Protected, HasPoints: true}
	with := func(change func(*lifecycle.Situation)) lifecycle.Situation {
		s := base
		change(&s)
		return s
	}
	for _, c := range []struct {
		name string
		s    lifecycle.Situation
		want string
	}{
		{"nothing yet", with(func(s *lifecycle.Situation) { s.HasPoints = false }),
			"planned-failover resynchronize pause disable-protection"},
		{"paused", with(func(s *lifecycle.Situation) { s.Paused = true }),
			"test-failover planned-failover unplanned-failover resume disable-protection"},
		{"busy", with(func(s *lifecycle.Situation) { s.Busy = true }), "pause"},
		{"busy and paused", with(func(s *lifecycle.Situation) { s.Busy, s.Paused = true, true }), "resume"},
		{"test failover running", with(func(s *lifecycle.Situation) { s.Drill = lifecycle.DrillRunning }),
			"cleanup-test-failover unplanned-failover resynchronize pause"},
		{"test failover failed", with(func(s *lifecycle.Situation) { s.Drill = lifecycle.DrillUnhealthy }),
			"cleanup-test-failover unplanned-failover resynchronize pause"},
		{"test failover starting, its job at work", with(func(s *lifecycle.Situation) { s.Drill, s.Busy = lifecycle.DrillStarting, true }), "pause"},
		{"test failover starting, its job gone", with(func(s *lifecycle.Situation) { s.Drill = lifecycle.DrillStarting }),
			"cleanup-test-failover unplanned-failover resynchronize pause"},
		{"cleanup that failed", with(func(s *lifecycle.Situation) { s.Drill = lifecycle.DrillCleanup }),
			"cleanup-test-failover unplanned-failover resynchronize pause"},
		{"commit during a test failover", with(func(s *lifecycle.Situation) {
			s.State, s.Drill = lifecycle.CommitPending, lifecycle.DrillRunning
		}), "cleanup-test-failover change-recovery-point"},
		{"unknown scenario", with(func(s *lifecycle.Situation) { s.Scenario = "moon-mars" }), ""},
		{"unknown state", with(func(s *lifecycle.Situation) { s.State = "flying" }), ""},
	} {
		var got []string
		for _, v := range lifecycle.Allows(c.s) {
			got = append(got, string(v))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, strings.Join(got, " "), c.want)
		}
	}
}

// What can be paused stands still when it is, and nothing else: a failover sends the last
// changes of a machine that was paused before.
func TestWhatCanBePausedStandsStill(t *testing.T) {
	for _, state := range lifecycle.States() {
		s := lifecycle.Situation{Scenario: lifecycle.Scenarios()[0].Scenario, State: state, Busy: true}
		if asked := lifecycle.Why(s, lifecycle.Pause) == ""; asked != lifecycle.Pauses(state) {
			t.Errorf("%s: a pause can be asked for: %t, and replication stands still: %t", state, asked, lifecycle.Pauses(state))
		}
	}
	if lifecycle.Pauses(lifecycle.FailingOver) || lifecycle.Pauses(lifecycle.FailingBack) {
		t.Error("a failover or a failback stands still")
	}
}

// A refusal is a sentence: it begins with a capital letter and ends with a period.
// And what Why refuses, Allows does not offer: over every situation there is.
func TestEveryRefusalIsASentence(t *testing.T) {
	situations := 0
	for _, rules := range lifecycle.Scenarios() {
		for _, direction := range []lifecycle.Direction{lifecycle.Forward, lifecycle.Reverse} {
			for _, state := range lifecycle.States() {
				for _, drill := range lifecycle.Drills() {
					for bits := range 8 {
						s := lifecycle.Situation{Scenario: rules.Scenario, Direction: direction, State: state, Drill: drill,
							Paused: bits&1 != 0, HasPoints: bits&2 != 0, Busy: bits&4 != 0}
						situations++
						allowed := lifecycle.Allows(s)
						for _, v := range lifecycle.Verbs() {
							why := lifecycle.Why(s, v)
							if (why == "") != slices.Contains(allowed, v) {
								t.Fatalf("%+v, %s: Why says %q, Allows %v", s, v, why, allowed)
							}
							if why != "" && (!strings.HasSuffix(why, ".") || strings.ToUpper(why[:1]) != why[:1] || strings.Contains(why, "%!")) {
								t.Fatalf("%+v, %s: %q is not a sentence", s, v, why)
							}
						}
					}
				}
			}
		}
	}
	if why := lifecycle.Why(lifecycle.Situation{Scenario: lifecycle.Lab, State: lifecycle.Protected}, "dance"); why == "" {
		t.Error("an unknown verb is allowed")
	}
	t.Logf("%d situations", situations)
}

// Whatever a verb leads to can also happen: the table has the event.
func TestWhatIsAllowedHasItsEvent(t *testing.T) {
	event := map[lifecycle.Verb]lifecycle.Event{
		lifecycle.EnableProtection:  lifecycle.EnableAsked,
		lifecycle.DisableProtection: lifecycle.DisableAsked,
		lifecycle.Resynchronize:     lifecycle.ResyncStarted,
		lifecycle.PlannedFailover:   lifecycle.FailoverStarted,
		lifecycle.UnplannedFailover: lifecycle.FailoverStarted,
		lifecycle.ChangePoint:       lifecycle.ChangePointStarted,
		lifecycle.Commit:            lifecycle.CommitDone,
		lifecycle.CompleteMigration: lifecycle.MigrationCompleted,
		lifecycle.ReverseReplicate:  lifecycle.ReverseStarted,
		lifecycle.Failback:          lifecycle.FailbackStarted,
	}
	for _, rules := range lifecycle.Scenarios() {
		for _, state := range lifecycle.States() {
			direction := lifecycle.Forward
			if state == lifecycle.ProtectedReverse || state == lifecycle.Reversing {
				direction = lifecycle.Reverse
			}
			for _, v := range lifecycle.Allows(lifecycle.Situation{Scenario: rules.Scenario, Direction: direction, State: state, HasPoints: true}) {
				e, changes := event[v]
				if v == lifecycle.UnplannedFailover && direction == lifecycle.Reverse {
					e = lifecycle.FailbackStarted // without asking the owner
				}
				if !changes {
					continue
				}
				if _, err := lifecycle.Next(state, e); err != nil {
					t.Errorf("%s allows %s in state %s, but: %v", rules.Scenario, v, state, err)
				}
			}
		}
	}
}

func TestTheRetryScheduleIsThatOfTheSeed(t *testing.T) {
	want := []time.Duration{1, 2, 4, 8, 10, 30, 30, 30}
	for i, minutes := range want {
		if got := lifecycle.RetryWait(i + 1); got != minutes*time.Minute {
			t.Errorf("after failure %d: wait %s, want %s", i+1, got, minutes*time.Minute)
		}
	}
	if got := lifecycle.RetryWait(0); got != time.Minute {
		t.Errorf("without a failure: wait %s, want 1m", got)
	}
}
