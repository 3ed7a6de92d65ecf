package lifecycle

import (
	"fmt"
	"slices"
)

// Verbs are all verbs, in the order in which a page offers them.
func Verbs() []Verb {
	return []Verb{EnableProtection, TestFailover, CleanupTest, PlannedFailover, UnplannedFailover,
		ChangePoint, Commit, CompleteMigration, ReverseReplicate, Failback,
		Resynchronize, Pause, Resume, DisableProtection}
}

// Situation is what decides which verbs a machine has now.
type Situation struct {
	Scenario  Scenario
	Direction Direction // empty is forward
	State     State
	Drill     Drill
	Paused    bool // by a person
	HasPoints bool // there is at least one recovery point to choose
	Busy      bool // a job of this machine has not ended
}

// Allows gives the verbs that can be asked for in s, in the order of [Verbs].
func Allows(s Situation) []Verb {
	var allowed []Verb
	for _, v := range Verbs() {
		if Why(s, v) == "" {
			allowed = append(allowed, v)
		}
	}
	return allowed
}

// Why says in a sentence why v cannot be asked for in s. It is empty when v can.
func Why(s Situation, v Verb) string {
	rules, err := RulesFor(s.Scenario)
	if err != nil {
		return "The scenario of this machine is not known."
	}
	if why := never(rules, s.Direction, v); why != "" {
		return why
	}
	if why := notIn(s, v); why != "" {
		return why
	}
	// Pause and Resume act at once; everything else is a job.
	if s.Busy && v != Pause && v != Resume {
		return "Another job of this machine is under way: wait for it, or cancel it."
	}
	if s.Drill != NoDrill && !besideDrill(v) {
		return "A test failover is not cleaned up yet."
	}
	return notNow(s, v)
}

// never says why the scenario does not have v at all in this direction.
func never(rules Rules, d Direction, v Verb) string {
	failovers, where := rules.Forward, ""
	if d == Reverse {
		failovers, where = rules.Reverse, " in reverse"
	}
	missing := fmt.Sprintf("%s has no %s%s.", rules.Title, Spoken(v), where)
	switch v {
	case TestFailover:
		if !failovers.Test {
			return missing
		}
	case PlannedFailover:
		if d == Reverse {
			return "In reverse the planned failover is the failback."
		}
		if !failovers.Planned {
			return missing
		}
	case UnplannedFailover:
		if !failovers.Unplanned {
			return missing
		}
	case Failback:
		if !rules.Reverse.Planned {
			return missing
		}
	case ReverseReplicate:
		if rules.Reverse == noFailover {
			return missing
		}
	case ChangePoint:
		if rules.AutoCommit {
			return rules.Title + " commits a failover by itself: the recovery point cannot be changed."
		}
	case CompleteMigration:
		if !rules.Migration {
			return missing
		}
	case Resynchronize, Pause, Resume:
		if rules.ByArray {
			return "The storage arrays replicate this machine."
		}
	}
	return ""
}

// homes are the states in which a verb makes sense.
var homes = map[Verb][]State{
	EnableProtection:  {Unprotected},
	TestFailover:      {Protected, ResyncRequired, Resyncing, ProtectedReverse},
	PlannedFailover:   {Protected},
	UnplannedFailover: {Protected, ResyncRequired, Resyncing, ProtectedReverse},
	ChangePoint:       {CommitPending},
	Commit:            {CommitPending},
	CompleteMigration: {Committed},
	ReverseReplicate:  {Committed},
	Failback:          {ProtectedReverse},
	Resynchronize:     {Protected, ResyncRequired, ProtectedReverse},
	Pause:             {InitialReplication, Protected, ResyncRequired, Resyncing, Reversing, ProtectedReverse},
	Resume:            {InitialReplication, Protected, ResyncRequired, Resyncing, Reversing, ProtectedReverse},
	DisableProtection: {Enabling, InitialReplication, Finalizing, Protected, ResyncRequired, Resyncing,
		Committed, Reversing, ProtectedReverse, Migrated, Disabling},
}

// Pauses reports whether replication can be paused in s, and stands still there if it was.
// A failover or a failback that began meanwhile does not: it sends the last changes.
func Pauses(s State) bool { return slices.Contains(homes[Pause], s) }

// notIn says why v does not belong to the state of s.
func notIn(s Situation, v Verb) string {
	if v == CleanupTest { // belongs to the drill, whatever replication does
		return ""
	}
	states, known := homes[v]
	if !known {
		return fmt.Sprintf("%q is not a verb.", v)
	}
	for _, state := range states {
		if state == s.State {
			return ""
		}
	}
	return fmt.Sprintf("No %s while the machine is in state “%s”.", Spoken(v), s.State)
}

// besideDrill tells the verbs that a test failover does not hinder. A disaster
// does not wait for the end of an exercise. The others would take away points or
// change the owner under the test machine.
func besideDrill(v Verb) bool {
	switch v {
	case CleanupTest, UnplannedFailover, ChangePoint, Resynchronize, Pause, Resume:
		return true
	}
	return false
}

// notNow says what else is missing for v.
func notNow(s Situation, v Verb) string {
	switch v {
	case TestFailover, UnplannedFailover, ChangePoint:
		if !s.HasPoints {
			return "There is no recovery point yet."
		}
	case CleanupTest:
		if s.Drill == NoDrill {
			return "There is no test failover to clean up."
		}
	case Resynchronize:
		if s.Paused {
			return "Replication is paused: resume it first."
		}
	case Pause:
		if s.Paused {
			return "Replication is paused already."
		}
	case Resume:
		if !s.Paused {
			return "Replication is not paused."
		}
	}
	return ""
}

// Spoken is v as a person says it inside of a sentence: "test failover".
func Spoken(v Verb) string {
	switch v {
	case EnableProtection:
		return "enabling of protection"
	case DisableProtection:
		return "disabling of protection"
	case Resynchronize:
		return "resynchronization"
	case Pause:
		return "pause"
	case Resume:
		return "resuming"
	case TestFailover:
		return "test failover"
	case CleanupTest:
		return "cleanup of a test failover"
	case PlannedFailover:
		return "planned failover"
	case UnplannedFailover:
		return "unplanned failover"
	case ChangePoint:
		return "change of the recovery point"
	case Commit:
		return "commit"
	case CompleteMigration:
		return "completion of a migration"
	case ReverseReplicate:
		return "reverse replication"
	case Failback:
		return "failback"
	}
	return string(v)
}
