package hypervisor

import (
	"context"
	"io"

	"riparo/replication"
)

// Watcher tells of changes as they happen. Discovery polls providers without it.
type Watcher interface {
	// Watch calls changed with the machine that appeared, vanished or changed its
	// power, until ctx ends or the connection is lost; then it returns why.
	Watch(ctx context.Context, changed func(Ref)) error
}

// OverlayBooter can run a machine whose disks are overlays on an NBD view, and
// make them independent of it while it runs.
type OverlayBooter interface {
	// Flatten copies what the overlays still read from their backing into them,
	// then lets go of the backing. The machine may run meanwhile. progress gets
	// bytes done and bytes in all. Interrupted and repeated, it goes on. Flatten
	// of a machine without backing is harmless. When it returns nil, no disk was
	// seen to have a backing any more.
	Flatten(ctx context.Context, ref Ref, progress func(done, total int64)) error
}

// DiskOpener gives the bytes of a stopped machine's disk.
type DiskOpener interface {
	// OpenDisk opens a disk of a stopped machine. It refuses a running one. As long as
	// a disk is open, nobody starts the machine through this provider.
	OpenDisk(ctx context.Context, ref Ref, key string, mode OpenMode) (OpenedDisk, error)
	// Stamp tells what the disks of a stopped machine look like from outside: it is
	// another text after any of them was written to, by whomever, as far as the place
	// where they lie shows it. That they were only opened may change it too. It is ""
	// for a running machine, and when the provider cannot tell.
	Stamp(ctx context.Context, ref Ref) (string, error)
}

// StoppedReader is a place that may be unable to read the disks of stopped machines, neither
// in a capture nor opened. A place that is none can.
type StoppedReader interface {
	// ReadsStopped is nil, or says why it cannot, without contacting the place.
	ReadsStopped() error
}

// OpenMode says what an opened disk may be used for.
type OpenMode int

const (
	ReadOnly OpenMode = iota
	ReadWrite
)

// OpenedDisk is the disk of a stopped machine: a [replication.Source] that can
// also be written. Writing a zero change releases space where the format can.
type OpenedDisk interface {
	replication.Source
	io.WriterAt
	// Zero makes an extent all zero.
	Zero(extent replication.Extent) error
	// Sync makes what was written durable.
	Sync() error
	Close() error
}

// ConsoleReader reads what a machine says on its serial console.
type ConsoleReader interface {
	// Console returns what the machine printed since it was last started, at most
	// the last limit bytes. A machine that printed nothing gives nothing.
	Console(ctx context.Context, ref Ref, limit int) ([]byte, error)
}

// Fencer keeps a machine from starting, also by hand, as far as the provider
// can: the mark is stored with the machine.
type Fencer interface {
	// Fence stops the machine from being started. It does not power it off.
	Fence(ctx context.Context, ref Ref, reason string) error
	// Unfence lets it start again.
	Unfence(ctx context.Context, ref Ref) error
}

// Settler ends what a process that is gone left under way in machines: an open capture, a
// guest that stands still because of one, a freeze.
type Settler interface {
	// Settle looks for such things and ends them. It leaves alone what this provider
	// holds itself, machines that somebody works with just now, and a guest that a person
	// paused. Where nothing is left it costs little: it may be called often. What could
	// not be ended is in the error, and the next call tries again.
	//
	// A capture of another process that lives is ended too: whoever calls Settle is the
	// one who takes the points of the place.
	Settle(ctx context.Context) error
}
