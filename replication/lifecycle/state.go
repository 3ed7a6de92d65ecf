package lifecycle

// State is where a protected machine stands.
type State string

const (
	Unprotected        State = "unprotected"
	Enabling           State = "enabling protection"
	InitialReplication State = "initial replication"
	Finalizing         State = "finalizing protection"
	Protected          State = "protected"
	ResyncRequired     State = "resynchronization required"
	Resyncing          State = "resynchronizing"
	FailingOver        State = "failing over"
	CommitPending      State = "commit pending"
	ChangingPoint      State = "changing recovery point"
	Committed          State = "committed"
	Reversing          State = "reverse replicating"
	ProtectedReverse   State = "protected in reverse"
	FailingBack        State = "failing back"
	Migrated           State = "migrated"
	Disabling          State = "disabling protection"
)

// Drill is where a machine's test failover stands.
type Drill string

const (
	NoDrill        Drill = ""
	DrillStarting  Drill = "starting test failover"
	DrillRunning   Drill = "test failover running"
	DrillCleanup   Drill = "cleaning up test failover"
	DrillUnhealthy Drill = "test failover failed" // something may be left; cleanup is due
)

// FailoverKind tells the two real failovers apart.
type FailoverKind string

const (
	Planned   FailoverKind = "planned"
	Unplanned FailoverKind = "unplanned"
)

// Direction is which end owns the machine's replication.
type Direction string

const (
	Forward Direction = "forward"
	Reverse Direction = "reverse"
)

// Verb is something a person can ask for. Each is a job kind too.
type Verb string

const (
	EnableProtection  Verb = "enable-protection"
	DisableProtection Verb = "disable-protection"
	Resynchronize     Verb = "resynchronize"
	Pause             Verb = "pause"
	Resume            Verb = "resume"
	TestFailover      Verb = "test-failover"
	CleanupTest       Verb = "cleanup-test-failover"
	PlannedFailover   Verb = "planned-failover"
	UnplannedFailover Verb = "unplanned-failover"
	ChangePoint       Verb = "change-recovery-point"
	Commit            Verb = "commit"
	CompleteMigration Verb = "complete-migration" // after the commit of a migration
	ReverseReplicate  Verb = "reverse-replicate"
	Failback          Verb = "failback"
)
