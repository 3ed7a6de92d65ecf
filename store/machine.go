package store

import (
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/noise"
)

// Machine is a protected machine. Key: its ID.
type Machine struct {
	ID   replication.MachineID `json:"id"`
	Name string                `json:"name"`

	// Source is where the machine lives and Target where its replica does. They
	// keep their meaning when the direction is reversed.
	Source    Place               `json:"source"`
	Target    Place               `json:"target"`
	Scenario  lifecycle.Scenario  `json:"scenario"`
	Direction lifecycle.Direction `json:"direction"`

	State  lifecycle.State `json:"state"`
	Since  time.Time       `json:"since"` // of State
	Drill  lifecycle.Drill `json:"drill"`
	Health Health          `json:"health"`

	// Shape is the machine as its source last reported it: what a replica is built
	// from when the source is gone.
	Shape hypervisor.Machine `json:"shape"`

	Policy string            `json:"policy"` // name
	Disks  []Disk            `json:"disks"`
	Epoch  replication.Epoch `json:"epoch"` // current owner's

	// Network is where the replica is attached at a real failover.
	Network string `json:"network,omitempty"`

	Paused      bool   `json:"paused,omitempty"` // by a person
	PauseReason string `json:"pause_reason,omitempty"`

	LastPoint *replication.RecoveryPoint `json:"last_point,omitempty"`
	LastApp   *replication.RecoveryPoint `json:"last_app,omitempty"`
	// AppTried is when an application-consistent point was last tried for, with or
	// without success.
	AppTried time.Time `json:"app_tried,omitzero"`
	// BootSign is a text that the machine prints on its serial console when it is
	// up; a failover waits to see it. Empty: anything printed will do.
	BootSign string `json:"boot_sign,omitempty"`
	// Compare: the next point compares every disk with the vault, because somebody
	// doubted what is known about changes.
	Compare bool `json:"compare,omitempty"`
	// Failures counts consecutive failed cycles; NextTry is when the next one is due.
	Failures int       `json:"failures,omitempty"`
	NextTry  time.Time `json:"next_try,omitzero"`

	// Noise is what is remembered of each disk to see that it is being encrypted, and
	// Alarm that it seems to be. CleanPoint may turn out to be the last clean one.
	Noise      map[replication.DiskID]noise.State `json:"noise,omitempty"`
	Alarm      *Alarm                             `json:"alarm,omitempty"`
	CleanPoint replication.PointID                `json:"clean_point,omitempty"`
	// Pins are the points that are kept until a person lets them go.
	Pins []Pin `json:"pins,omitempty"`

	Failover *Failover     `json:"failover,omitempty"`
	Test     *TestFailover `json:"test,omitempty"`
	// LastDrill is the newest finished test failover.
	LastDrill *DrillResult `json:"last_drill,omitempty"`

	Created time.Time `json:"created"`
}

// Alarm says that disks of a machine turn to noise, as they do when somebody encrypts
// them. It stands until a person dismisses it.
type Alarm struct {
	Raised    time.Time           `json:"raised"`
	Disks     []string            `json:"disks"` // keys
	After     time.Time           `json:"after"` // points that are later are suspect
	LastClean replication.PointID `json:"last_clean,omitempty"`
	LostBytes int64               `json:"lost_bytes"` // that were turned to noise when it was raised
}

// Pin keeps a recovery point, whatever the retention says.
type Pin struct {
	Point replication.PointID `json:"point"`
	By    string              `json:"by"`
	Since time.Time           `json:"since"`
	Note  string              `json:"note,omitempty"`
}

// PinOf gives the pin of a point, or nil.
func (m *Machine) PinOf(point replication.PointID) *Pin {
	for i := range m.Pins {
		if m.Pins[i].Point == point {
			return &m.Pins[i]
		}
	}
	return nil
}

// Place is a machine at a site. Ref is empty while it does not exist there.
type Place struct {
	Site string `json:"site"`
	Ref  string `json:"ref,omitempty"`
}

// Disk is one disk of a protected machine.
type Disk struct {
	Key      string             `json:"key"` // the provider's
	ID       replication.DiskID `json:"id"`  // the vault's
	Size     int64              `json:"size"`
	Boot     bool               `json:"boot,omitempty"`
	Excluded bool               `json:"excluded,omitempty"`
	// Removed: excluded because the machine had it no more, not by a person. When it
	// is seen again it is protected again.
	Removed bool `json:"removed,omitempty"`
	// Seed is the name of an image that a person brought of the disk, until the vault was
	// filled from it.
	Seed string `json:"seed,omitempty"`
	// Brought is how far a transfer came that was cut off before it made a point.
	Brought *Brought `json:"brought,omitempty"`
}

// Brought says that the vault's head of a disk, below an offset, is what the disk was at
// one instant. A first transfer or a comparison that was cut off goes on from there, if
// the source still remembers the instant: then it knows what was written below since.
type Brought struct {
	Point  replication.PointID `json:"point"`           // the name of the instant; no point was made of it
	Since  replication.PointID `json:"since,omitempty"` // the newest point that the vault had
	Offset int64               `json:"offset"`
	Size   int64               `json:"size"` // of the disk, bytes
	// Epoch and Sequence were the vault's: a head of another owner, or one that lacks
	// what was acknowledged, is not the one that is meant.
	Epoch    replication.Epoch    `json:"epoch"`
	Sequence replication.Sequence `json:"sequence"`
	// Again is set before a transfer goes on from here: cut off as well, it has left blocks
	// below the offset that are not of this instant.
	Again bool `json:"again,omitempty"`
}

// Fits reports whether it is true of what a vault says that it has.
func (b *Brought) Fits(state replication.DiskState) bool {
	return b != nil && b.Size == state.Disk.Size && b.Epoch == state.Epoch && b.Sequence <= state.Sequence && b.Since == state.Point
}

// HealthLevel is the worst of a machine's findings.
type HealthLevel string

const (
	Healthy       HealthLevel = "healthy"
	Warning       HealthLevel = "warning"
	Critical      HealthLevel = "critical"
	NotApplicable HealthLevel = "not applicable"
)

// Health says how a machine is and why.
type Health struct {
	Level    HealthLevel `json:"level"`
	Findings []Finding   `json:"findings,omitempty"`
}

// Finding is one reason why health is not good: a [replication.Problem] as kept.
type Finding struct {
	Code   string    `json:"code"`
	Level  string    `json:"level"`
	Cause  string    `json:"cause"`
	Effect string    `json:"effect,omitempty"`
	Action string    `json:"action,omitempty"`
	Since  time.Time `json:"since"`
}

// Failover is a failover under way, from its start until the failback is done.
type Failover struct {
	Kind        lifecycle.FailoverKind  `json:"kind"` // planned or unplanned
	Point       replication.PointID     `json:"point"`
	PointTime   time.Time               `json:"point_time"`
	Consistency replication.Consistency `json:"consistency"`
	Started     time.Time               `json:"started"`
	Committed   time.Time               `json:"committed,omitzero"`
	// Independent is true once the replica no longer reads from the vault.
	Independent bool `json:"independent,omitempty"`
	// SourceStopped is true when the source was seen stopped.
	SourceStopped bool `json:"source_stopped,omitempty"`
}

// TestFailover is a drill under way.
type TestFailover struct {
	Ref     string              `json:"ref"` // of the test machine at the target site
	Point   replication.PointID `json:"point"`
	Network string              `json:"network,omitempty"` // empty: isolated
	Started time.Time           `json:"started"`
	Job     string              `json:"job"`
	Passed  bool                `json:"passed,omitempty"` // it ran when its cleanup began
}

// DrillResult is what a finished test failover showed.
type DrillResult struct {
	Started  time.Time           `json:"started"`
	Finished time.Time           `json:"finished"`
	Point    replication.PointID `json:"point"`
	Passed   bool                `json:"passed"`
	Notes    string              `json:"notes,omitempty"`
	Evidence []Fact              `json:"evidence,omitempty"`
}

// Fact is one thing that was observed. Example: {"console", "login:"}.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
