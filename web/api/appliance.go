package api

import (
	"context"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/report"
	"riparo/store"
)

// Appliance is what the API and the console ask of the daemon. Records are read
// from the store; this is for verbs and for what is not a record. Errors are
// [replication.Problem]s where a person can do something about them.
type Appliance interface {
	Verbs
	Guarding
	People
	Inventory
	Reporter
	Upkeep
	Notifying
	Configuring
}

// Verbs start what a person asks for. Each returns at once; the job does the work.
type Verbs interface {
	// Protect takes a discovered machine under protection and starts its
	// enable-protection job.
	Protect(ctx context.Context, r ProtectRequest) (machine replication.MachineID, job string, err error)
	// Seeds lists the images that disks can be filled from.
	Seeds(ctx context.Context) (Seeds, error)
	// Ask starts any other verb on a protected machine. It refuses what
	// lifecycle.Allows does not allow. Pause and Resume act at once and give no job.
	Ask(ctx context.Context, r Request) (job string, err error)

	CancelJob(ctx context.Context, actor, job string) error
	RestartJob(ctx context.Context, actor, job string) error // of a failed job: goes on at the step that failed
	AnswerJob(ctx context.Context, actor, job, answer string) error

	SavePolicy(ctx context.Context, who Who, p replication.Policy) error
	AddSite(ctx context.Context, actor string, s store.Site) error // contacts it first
	RemoveSite(ctx context.Context, actor, name string) error
}

// ProtectRequest says what to protect and where to.
type ProtectRequest struct {
	Actor   string
	Site    string
	Ref     hypervisor.Ref
	Target  string // site
	Policy  string
	Network string   // at the target, for a real failover
	Exclude []string // disk keys
	// Seeded are names of images in the appliance's folder seeds, by disk key: the vault
	// is filled from them first, and only what differs is sent.
	Seeded map[string]string
	// BootSign is a text that the machine prints on its serial console when it is
	// up: a failover waits to see it. Empty: anything printed will do.
	BootSign string
}

// Seeds are the images that were brought to fill disks from.
type Seeds struct {
	Folder string `json:"folder" doc:"Where images are put, on the appliance."`
	Images []Seed `json:"images" nullable:"false"`
}

// Seed is a raw image of a disk.
type Seed struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Request is a verb with what it needs.
type Request struct {
	Actor   string
	Verb    lifecycle.Verb
	Machine replication.MachineID
	// Point: for failovers and change point; empty means the latest, "app" the
	// latest application-consistent one.
	Point replication.PointID
	// Network: for a test failover; empty means an isolated one.
	Network string
	// SyncFirst: an unplanned failover first tries to shut the source down and
	// send its latest data. Without it the source is not touched.
	SyncFirst bool
	// Confirm repeats the machine's name for a real failover, failback and disable.
	Confirm string
	Notes   string
	// KeepPoints: disabling protection leaves the recovery points in the vault.
	KeepPoints bool
	// Person is the user behind the Actor: what protects points from one person alone
	// wants to know.
	Person string
}

// Who is who asks: the name for the log, and the user behind it.
type Who struct{ Name, Person string }

// Guarding keeps points safe from rot, from attackers and from mistakes. What would
// take protected points away is a problem "approval.needed" at first: it is done when
// another administrator approves it.
type Guarding interface {
	DismissAlarm(ctx context.Context, who Who, machine replication.MachineID, note string) error
	Pin(ctx context.Context, who Who, machine replication.MachineID, point replication.PointID, note string) error
	Unpin(ctx context.Context, who Who, machine replication.MachineID, point replication.PointID) error
	DeletePoints(ctx context.Context, who Who, machine replication.MachineID, points []replication.PointID) error

	// Kept lists what the vault keeps of machines that are not protected, and EraseKept
	// erases it; that always takes four eyes.
	Kept(ctx context.Context) ([]Kept, error)
	EraseKept(ctx context.Context, who Who, id, confirm string) error

	Approve(ctx context.Context, person, id string) error
	Refuse(ctx context.Context, person, id string) error

	// Scrub says how far the vault has read itself again, and what it found.
	Scrub(ctx context.Context) (ScrubStatus, error)
	ScrubNow(ctx context.Context) error
	// ConfirmClock takes the clock as the time by which locks end and points age: while
	// points are locked, once another administrator has approved.
	ConfirmClock(ctx context.Context, who Who) error
}

// Kept is what the vault keeps of a machine that is not protected.
type Kept struct {
	ID          string     `json:"id" doc:"The machine's identifier, or the disk's where it never belonged to a machine."`
	Name        string     `json:"name" doc:"The identifier where nobody disabled the machine's protection here, as after a restore."`
	Since       time.Time  `json:"since,omitzero" doc:"When its protection was disabled."`
	By          string     `json:"by,omitempty"`
	Disks       []KeptDisk `json:"disks" nullable:"false"`
	Points      int        `json:"points"`
	Newest      time.Time  `json:"newest,omitzero"`
	Oldest      time.Time  `json:"oldest,omitzero"`
	Pinned      int        `json:"pinned"`
	LockedUntil time.Time  `json:"locked_until,omitzero" doc:"Until then nobody can erase it."`
	StoredBytes int64      `json:"stored_bytes"`
}

// KeptDisk is one of its disks in the vault.
type KeptDisk struct {
	ID          replication.DiskID `json:"id"`
	Size        int64              `json:"size"`
	StoredBytes int64              `json:"stored_bytes"`
	Trouble     string             `json:"trouble,omitempty" doc:"Why it could not be opened, or why work on its maps failed last."`
	Unread      bool               `json:"unread,omitempty" doc:"Nobody can list its points, nor knows whether they are locked: until it can be read, none of the machine's disks can be erased."`
}

// ScrubStatus is where the scrub of the vault is.
type ScrubStatus struct {
	Running        bool      `json:"running"`
	Began          time.Time `json:"began,omitzero" doc:"Of the pass under way, or of the last one."`
	DoneBytes      int64     `json:"done_bytes"`
	TotalBytes     int64     `json:"total_bytes"`
	BytesPerSecond int64     `json:"bytes_per_second" doc:"What it may read."`
	Next           time.Time `json:"next,omitzero"`
	Passes         int       `json:"passes"`
	Completed      time.Time `json:"completed,omitzero"`
	CompletedBytes int64     `json:"completed_bytes"`
	Findings       []Rot     `json:"findings" nullable:"false" doc:"Damage that is known and not healed."`
	Trouble        string    `json:"trouble,omitempty"`
}

// Rot is a damaged place of the vault.
type Rot struct {
	Disk   replication.DiskID    `json:"disk"`
	Offset int64                 `json:"offset" doc:"On the disk; with length 0 the place is not known."`
	Length int64                 `json:"length"`
	Points []replication.PointID `json:"points" nullable:"false" doc:"That need it."`
	Head   bool                  `json:"head" doc:"What no point has yet needs it."`
	Map    bool                  `json:"map" doc:"It is a map of the disk: nothing is lost, but the disk gives no room back until the appliance is started again."`
	Reason string                `json:"reason"`
}

// Inventory is what the sites have.
type Inventory interface {
	// Discovered lists the machines of all sites as last seen; refresh asks now.
	Discovered(ctx context.Context, refresh bool) ([]DiscoveredSite, error)
	// Points are a machine's recovery points, newest first.
	Points(ctx context.Context, machine replication.MachineID) ([]replication.RecoveryPoint, error)
	// Vault says how full the vault is.
	Vault(ctx context.Context) (VaultUsage, error)
}

// DiscoveredSite is a site and its machines as last seen.
type DiscoveredSite struct {
	Site     store.Site                `json:"site"`
	About    hypervisor.Description    `json:"about"`
	Seen     time.Time                 `json:"seen"`
	Machines []hypervisor.Machine      `json:"machines"`
	Networks []hypervisor.Network      `json:"networks"`
	Problem  *replication.Problem      `json:"problem,omitempty"`
	Protects map[hypervisor.Ref]string `json:"protects,omitempty"` // MachineID of those already protected
}

// VaultUsage is the vault's size in bytes.
type VaultUsage struct {
	StoredBytes  int64 `json:"stored_bytes"`
	LogicalBytes int64 `json:"logical_bytes"` // of all protected disks
	FreeBytes    int64 `json:"free_bytes"`    // of the volume; -1 when unknown
	Points       int   `json:"points"`
	// TrustedTime is what locks of recovery points are measured by. Clock is the finding
	// that the clock is ahead of it.
	TrustedTime time.Time      `json:"trusted_time"`
	Clock       *store.Finding `json:"clock,omitempty"`
}

// Reporter gives live figures as snapshots: reading them holds nothing up.
type Reporter interface {
	Report() Report
	// Subscribe gives a channel that is nudged (one slot, never blocks the sender)
	// when something changed, and a function that takes the set of what did:
	// "machine/ID", "job/ID", "event", "site/NAME". Call cancel when done.
	Subscribe() (nudge <-chan struct{}, changed func() []string, cancel func())
}

// Report and MachineReport are figures of replication at one moment.
type (
	Report        = report.Report
	MachineReport = report.Machine
)

// SampleEvery is the time between two samples of a history of a Report.
const SampleEvery = report.SampleEvery
