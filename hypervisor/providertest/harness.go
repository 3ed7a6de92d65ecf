package providertest

import (
	"context"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// Harness is what the suite needs to know of a place.
type Harness struct {
	// Open opens the provider. The suite closes it.
	Open func(t *testing.T) hypervisor.Provider

	// Source gives the machine to protect: there before Riparo came, with at least
	// two disks, and a guest that writes to them while it runs. The suite starts and
	// stops it. It is called once.
	Source func(t *testing.T, p hypervisor.Provider) Machine

	// Up waits until the guest of a machine runs so far that it writes, and answers
	// a request to shut down: the source, or a machine made from a recovery point of
	// it. nil where Start does not return before.
	Up func(t *testing.T, p hypervisor.Provider, ref hypervisor.Ref)

	// Reopen ends the appliance's side of the provider as a crash does, without
	// clean-up, and opens it again. nil where that cannot be shown.
	Reopen func(t *testing.T, p hypervisor.Provider) hypervisor.Provider

	// Network is a network of the place that machines can be attached to; empty if
	// there is none.
	Network string

	// Deaf says that the guest does not answer a request to shut down: then Stop pulls
	// the plug after the grace, and no stopped machine is clean.
	Deaf bool

	// Grace is how long the guest may take to shut down when asked; 30 s when 0.
	Grace time.Duration
}

// Machine is a machine whose disks can be judged.
type Machine interface {
	Ref() hypervisor.Ref

	// Write returns when the running guest of the source, or of a machine made from a
	// recovery point of it, has written to its disks since the call.
	Write(t *testing.T, ref hypervisor.Ref)

	// Judge says why disks, by key, do not show one instant of the machine, or of a
	// copy of it that ran on from a recovery point; nil if they do.
	Judge(ctx context.Context, disks map[string]replication.Source) error
}

// What a Machine may offer besides; a test that needs it is skipped without.
type (
	// DiskAdder gives the running machine a further disk, which its guest writes to
	// or not, and returns its key.
	DiskAdder interface {
		AddDisk(t *testing.T) (key string)
	}
	// DiskGrower makes a disk of the running machine larger.
	DiskGrower interface {
		GrowDisk(t *testing.T, key string)
	}
	// TrackingLoser makes the place lose its memory of changed blocks.
	TrackingLoser interface {
		LoseTracking(t *testing.T)
	}
	// FreezeFailer makes freezing the guest fail, or work again.
	FreezeFailer interface {
		FailFreeze(t *testing.T, on bool)
	}
)

func (h Harness) grace() time.Duration {
	switch {
	case h.Grace > 0:
		return h.Grace
	case h.Deaf:
		return time.Second
	}
	return 30 * time.Second
}
