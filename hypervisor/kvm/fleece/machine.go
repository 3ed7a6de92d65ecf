package fleece

import (
	"context"
	"net"

	"riparo/hypervisor/kvm/qga"
)

// Monitor gives commands to a QEMU. A [qmp.Conn] is one; libvirt has another.
type Monitor interface {
	Execute(ctx context.Context, command string, arguments, result any) error
}

// Machine is what a capture needs to know of a machine.
type Machine struct {
	Name string
	// Disks are all disks of the machine that can be captured.
	Disks []Disk
	// Clean says that the machine was shut down by its guest and does not run.
	Clean bool
	// Connect opens the machine's monitor for one operation.
	Connect func(ctx context.Context) (monitor Monitor, release func(), err error)
	// Continue lets a guest go on that QEMU stopped. If nil the monitor is told to.
	Continue func(ctx context.Context) error
	// Agent opens a conversation with the guest agent. It is nil when the machine
	// has no channel for one.
	Agent func(ctx context.Context) (agent qga.Executor, release func(), err error)
	// Freezing is called before a freeze with true and after the thaw with false,
	// so that a freeze can be ended after a crash. It may be nil.
	Freezing func(ctx context.Context, freezing bool) error

	// Scratch is where old content is kept, and Socket the path of the NBD server's
	// socket as QEMU sees it.
	Scratch Scratch
	Socket  string
	// Reserve is how much room a capture leaves free: it is given up rather than
	// taking it, because production may need it. Limit is the most that a capture
	// may take; 0 is no limit.
	Reserve, Limit int64

	// Dial opens a connection to Socket; nil means from this host.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Disk is one disk of a machine.
type Disk struct {
	Key string // the provider's; at most [MaxKeyLength] bytes
	// Device is the QOM path of the device that the guest sees. It is empty when
	// the disk is open without a guest that could write.
	Device string
	// Node is the name of the block node that holds the guest's data and carries
	// the bitmaps. It may be empty when Device is set: then it is looked up.
	Node string
}

// MaxKeyLength: QEMU allows 31 bytes for the name of a node, and the longest
// prefix that is put before a key has 14.
const MaxKeyLength = 16

func (m *Machine) disk(key string) (Disk, bool) {
	for _, d := range m.Disks {
		if d.Key == key {
			return d, true
		}
	}
	return Disk{}, false
}
