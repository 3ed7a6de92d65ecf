package hypervisor

import (
	"context"
	"errors"
	"time"

	"riparo/replication"
)

// Provider is a place where machines run. Errors are [replication.Problem]s where
// a person can do something about them. Calls are safe from several goroutines.
type Provider interface {
	// Describe says what the place is, without contacting it.
	Describe() Description

	// Discover lists the machines. It fails when the place cannot be reached or
	// refuses the account.
	Discover(ctx context.Context) ([]Machine, error)

	// Machine reports one machine, or ErrNoMachine.
	Machine(ctx context.Context, ref Ref) (Machine, error)

	// Start powers a machine on. Starting a running machine is harmless.
	Start(ctx context.Context, ref Ref, options StartOptions) error

	// Stop powers a machine off: asks the guest and, when it has not ended after
	// grace, pulls the plug. A grace of 0 pulls the plug at once. When Stop
	// returns nil the machine was seen stopped. Stopping a stopped one is harmless.
	Stop(ctx context.Context, ref Ref, grace time.Duration) (StopOutcome, error)

	// Create makes a machine, powered off. A machine of this name that Riparo
	// made for the same Owner before is replaced: an interrupted Create is repeated.
	Create(ctx context.Context, spec Spec) (Machine, error)

	// Remove ends a machine that Create made, with its disks. It refuses any
	// other (ErrNotOurs). Removing what is gone already is harmless.
	Remove(ctx context.Context, ref Ref) error

	// Networks lists what machines can be attached to.
	Networks(ctx context.Context) ([]Network, error)

	// Close releases connections. Machines go on running.
	Close() error
}

// Description says what a provider is.
type Description struct {
	Kind    string `json:"kind"`    // lab, kvm-qmp, kvm-libvirt, …
	Address string `json:"address"` // URI or folder
	// Emulated is true for a place that is not the product it stands for; the
	// console labels it so.
	Emulated bool `json:"emulated"`
}

// StopOutcome says how a machine ended.
type StopOutcome string

const (
	AlreadyStopped StopOutcome = "already stopped"
	ShutDown       StopOutcome = "shut down by its guest"
	PoweredOff     StopOutcome = "powered off"
)

// StartOptions tell how a machine starts.
type StartOptions struct {
	// TrackSince, if set, makes the provider remember every write from the first
	// instruction on, under this point's name, so that a later BeginPoint with
	// this Since reads a delta. Ignored by providers that are no ChangeReader.
	TrackSince replication.PointID
}

// Spec is a machine to create.
type Spec struct {
	Name string
	// Owner is Riparo's name for the purpose: "m-4f7c21aa/test". It is stored with
	// the machine, so that it is recognized as ours after a crash.
	Owner     string
	CPUs      int
	MemoryMiB int
	Disks     []DiskSpec
	Network   string // a name of Networks; empty: no network card connected
	// Isolated asks for a network of its own from which nothing can be reached;
	// it is made if need be and removed with the machine.
	Isolated bool
	NICs     []NIC // MAC addresses to keep; nil for new ones
	// Hardware is what the source provider said of the machine; a provider of
	// another kind takes from it what it understands.
	Hardware map[string]string
}

// DiskSpec is a disk of a machine to create: new and empty, or an overlay on a
// recovery point.
type DiskSpec struct {
	Key  string
	Size int64
	// Backing, if set, is the NBD URI of the content that the disk shows at first;
	// only an [OverlayBooter] accepts it. What the machine writes stays in the
	// overlay. Example: "nbd+unix:///web01.vda?socket=/run/riparo/x.sock".
	Backing string
	Boot    bool
}

var (
	// ErrNoMachine: the provider has no machine of that reference.
	ErrNoMachine = errors.New("no such machine")
	// ErrNotOurs: Riparo did not create that machine and leaves it alone.
	ErrNotOurs = errors.New("the machine was not created by Riparo")
	// ErrNotRunning: the machine would have to run for this.
	ErrNotRunning = errors.New("the machine is not running")
	// ErrFenced: the machine is kept from starting because another copy owns it.
	ErrFenced = errors.New("the machine is fenced: another copy owns it")
)
