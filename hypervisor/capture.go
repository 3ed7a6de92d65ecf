package hypervisor

import (
	"context"
	"time"

	"riparo/replication"
)

// ChangeReader freezes the disks of a machine at one instant and tells what
// changed since an earlier one.
//
// The provider remembers an instant under the name of its recovery point. Which
// instants matter is the caller's knowledge: Since names, for each disk, the last
// point that the vault holds. BeginPoint puts the provider's own memory in order
// first: what it remembers since Since is used; what a crash left over from a
// capture that never was committed is merged back; what is older is dropped. If
// nothing trustworthy is found, the disk's Mode is Unknown and says why.
type ChangeReader interface {
	// BeginPoint freezes all disks named in the request at one instant. Only one
	// capture of a machine is open at a time: an older one left by a crash is
	// rolled back. The machine keeps running; production is never paused to make
	// room: if the place where old content is kept fills up, reads of the capture
	// fail instead. A stopped machine is captured too, as Clean, from its disks;
	// a provider that cannot do that returns ErrNotRunning, and the caller compares
	// the opened disks with the vault.
	BeginPoint(ctx context.Context, request PointRequest) (Capture, error)

	// Forget removes everything that BeginPoint left on the machine: memories of
	// instants and the rest of interrupted captures.
	Forget(ctx context.Context, ref Ref) error
}

// PointRequest asks for a frozen instant of a machine.
type PointRequest struct {
	Ref   Ref
	Point replication.PointID // the name under which the instant is remembered
	// Disks are the keys of the disks to capture, in the order to be read.
	Disks []string
	// Since is, for each disk key, the last point that the vault holds of it. A
	// disk without an entry is read in full.
	Since map[string]replication.PointID
	// Want is AppConsistent to freeze the guest first. When that cannot be had
	// the capture is crash-consistent and a warning says why.
	Want replication.Consistency
	// FreezeLimit bounds how long the guest may be frozen; it is thawed on every
	// path out, also after a crash.
	FreezeLimit time.Duration
}

// Capture is an open instant. Exactly one of Commit and Rollback ends it; both
// release what it holds, and both may be repeated.
type Capture interface {
	Instant() Instant
	Disks() []CapturedDisk
	// Commit is called after the vault acknowledged the point: from now on changes
	// are counted since this instant.
	Commit(ctx context.Context) error
	// Rollback makes the provider forget the instant: the next capture contains
	// these changes again.
	Rollback(ctx context.Context) error
}

// Instant is what really happened at the freeze.
type Instant struct {
	Consistency replication.Consistency
	// NotBefore and NotAfter bracket the instant on the appliance's clock.
	NotBefore, NotAfter time.Time
	// Frozen is how long the guest stood still; 0 when it was not frozen.
	Frozen time.Duration
	// Warnings say what was wished for and did not happen, and why.
	Warnings []string
	// Evidence is stored with the point: "transaction": "1.9 ms", ….
	Evidence map[string]string
}

// CaptureMode says what the regions of a captured disk are.
type CaptureMode string

const (
	// Full: the whole disk, holes marked zero.
	Full CaptureMode = "full"
	// Delta: what was written since the point named in Since.
	Delta CaptureMode = "delta"
	// Unknown: the memory of Since is lost or doubtful. The regions are those of
	// Full; compare them with the vault and send what differs.
	Unknown CaptureMode = "unknown"
)

// CapturedDisk is one disk of an open instant. Its ReadAt gives any place of the disk,
// whatever the mode: a comparison that was cut off goes on with a Delta.
type CapturedDisk interface {
	replication.Source
	Key() string
	Mode() CaptureMode
	// Reason says why Mode is Unknown: "bitmap inconsistent after QEMU crashed".
	Reason() string
}
