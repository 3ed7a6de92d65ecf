package lifecycle

import "fmt"

// Event is something that happened to a protected machine and may change its
// [State]. An event is applied when it was observed, not when it was wished for.
type Event string

const (
	EnableAsked               Event = "enable asked"
	EnableAborted             Event = "enable aborted"
	InitialReplicationStarted Event = "initial replication started"
	InitialReplicationDone    Event = "initial replication done"
	Finalized                 Event = "finalized"
	TrackingLost              Event = "tracking lost"
	ResyncStarted             Event = "resynchronization started"
	ResyncDone                Event = "resynchronization done"
	ResyncAborted             Event = "resynchronization aborted"
	FailoverStarted           Event = "failover started"
	FailedOver                Event = "failed over"
	FailoverAborted           Event = "failover aborted"
	ChangePointStarted        Event = "change of recovery point started"
	ChangePointDone           Event = "recovery point changed"
	ChangePointAborted        Event = "change of recovery point aborted"
	CommitDone                Event = "commit done"
	MigrationCompleted        Event = "migration completed"
	ReverseStarted            Event = "reverse replication started"
	ReverseDone               Event = "reverse replication done"
	ReverseAborted            Event = "reverse replication aborted"
	FailbackStarted           Event = "failback started"
	FailbackDone              Event = "failback done"
	FailbackAborted           Event = "failback aborted"
	DisableAsked              Event = "disable asked"
	Disabled                  Event = "disabled"
)

// transitions is all that can happen. What is not listed is refused.
var transitions = map[State]map[Event]State{
	Unprotected: {
		EnableAsked: Enabling,
	},
	Enabling: {
		InitialReplicationStarted: InitialReplication,
		EnableAborted:             Unprotected,
		DisableAsked:              Disabling,
	},
	InitialReplication: {
		InitialReplicationDone: Finalizing,
		// Everything is still being sent: what the tracker forgot is found by
		// comparing, inside the same initial replication.
		TrackingLost:  InitialReplication,
		EnableAborted: Unprotected,
		DisableAsked:  Disabling,
	},
	Finalizing: {
		Finalized:     Protected,
		EnableAborted: Unprotected,
		DisableAsked:  Disabling,
	},
	Protected: {
		TrackingLost:    ResyncRequired,
		ResyncStarted:   Resyncing,
		FailoverStarted: FailingOver,
		DisableAsked:    Disabling,
	},
	// The points from before the loss are as good as ever: a failover to one of
	// them must not wait for a resynchronization that may never come to an end.
	ResyncRequired: {
		TrackingLost:    ResyncRequired,
		ResyncStarted:   Resyncing,
		FailoverStarted: FailingOver,
		DisableAsked:    Disabling,
	},
	Resyncing: {
		ResyncDone:      Protected,
		ResyncAborted:   ResyncRequired,
		TrackingLost:    ResyncRequired,
		FailoverStarted: FailingOver,
		DisableAsked:    Disabling,
	},
	// The source owns its machine again after an abort. Whoever aborts a failover
	// that began with a lost or doubtful tracker applies TrackingLost next.
	FailingOver: {
		FailedOver:      CommitPending,
		FailoverAborted: Protected,
	},
	// Protection cannot be disabled here: the replica still reads from the vault.
	CommitPending: {
		ChangePointStarted: ChangingPoint,
		CommitDone:         Committed,
	},
	ChangingPoint: {
		ChangePointDone:    CommitPending,
		ChangePointAborted: CommitPending, // the replica is back on the point it had
	},
	Committed: {
		ReverseStarted:     Reversing,
		MigrationCompleted: Migrated,
		DisableAsked:       Disabling,
	},
	// Reverse replication compares both ends, so it is its own resynchronization:
	// a tracker lost on the way, or later, leads back here.
	Reversing: {
		ReverseDone:    ProtectedReverse,
		ReverseAborted: Committed,
		TrackingLost:   Reversing,
		DisableAsked:   Disabling,
	},
	ProtectedReverse: {
		TrackingLost:    Reversing,
		ResyncStarted:   Reversing,
		FailbackStarted: FailingBack,
		DisableAsked:    Disabling,
	},
	FailingBack: {
		FailbackDone:    Protected, // and the direction is forward again
		FailbackAborted: ProtectedReverse,
	},
	Migrated: {
		DisableAsked: Disabling, // takes it off the list; the machine lives on
	},
	Disabling: {
		DisableAsked: Disabling, // asked again after an attempt that failed
		Disabled:     Unprotected,
	},
}

// Next is the state after e happened in s. An event that does not belong there
// is an error which names both, and s stays what it is.
func Next(s State, e Event) (State, error) {
	events, known := transitions[s]
	if !known {
		return s, fmt.Errorf("%q is not a state of a machine (event %q)", s, e)
	}
	next, allowed := events[e]
	if !allowed {
		return s, fmt.Errorf("event %q does not belong to state %q", e, s)
	}
	return next, nil
}

// Replicates reports whether delta cycles run in s, in whichever direction.
// Initial replication, resynchronization and reverse replication transfer data
// too, but as jobs with an end.
func Replicates(s State) bool { return s == Protected || s == ProtectedReverse }

// States are all states in the order in which a machine meets them.
func States() []State {
	return []State{Unprotected, Enabling, InitialReplication, Finalizing, Protected,
		ResyncRequired, Resyncing, FailingOver, CommitPending, ChangingPoint, Committed,
		Reversing, ProtectedReverse, FailingBack, Migrated, Disabling}
}

// Events are all events of a machine.
func Events() []Event {
	return []Event{EnableAsked, EnableAborted, InitialReplicationStarted, InitialReplicationDone,
		Finalized, TrackingLost, ResyncStarted, ResyncDone, ResyncAborted, FailoverStarted,
		FailedOver, FailoverAborted, ChangePointStarted, ChangePointDone, ChangePointAborted,
		CommitDone, MigrationCompleted, ReverseStarted, ReverseDone, ReverseAborted,
		FailbackStarted, FailbackDone, FailbackAborted, DisableAsked, Disabled}
}
