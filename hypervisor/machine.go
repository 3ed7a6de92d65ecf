package hypervisor

import "time"

// Ref names a machine at its provider: a libvirt UUID, a moref, a folder name.
type Ref string

// Power is what a machine does right now.
type Power string

const (
	Running Power = "running"
	Stopped Power = "stopped"
	// Suspended: in memory but not executing, also when its disk is full.
	Suspended Power = "suspended"
	// PowerUnknown: the provider cannot tell, for instance because it is away.
	PowerUnknown Power = "unknown"
)

// Machine is a machine as its provider reports it.
type Machine struct {
	Ref        Ref       `json:"ref"`
	Name       string    `json:"name"`
	Power      Power     `json:"power"`
	CPUs       int       `json:"cpus"`
	MemoryMiB  int       `json:"memory_mib"`
	Disks      []Disk    `json:"disks"`
	NICs       []NIC     `json:"nics"`
	OS         string    `json:"os,omitempty"`
	GuestAgent bool      `json:"guest_agent"` // an agent channel exists
	BootID     string    `json:"boot_id,omitempty"`
	Started    time.Time `json:"started,omitzero"`
	// Replica is true for a machine that Riparo created here; discovery shows it
	// but does not offer to protect it.
	Replica bool `json:"replica,omitempty"`
	// Owner is the [Spec]'s of a machine that Riparo created.
	Owner string `json:"owner,omitempty"`
	// Fenced is true while Riparo keeps this machine from starting because
	// another copy of it owns its identity.
	Fenced bool `json:"fenced,omitempty"`
	// Obstacles say why the machine cannot be protected as it is, each with its
	// remedy: a shared disk, a disk without a file, an unsupported format.
	Obstacles []string `json:"obstacles,omitempty"`
	// Hardware is what the provider needs to build an equal machine elsewhere
	// (firmware, machine type, controllers), in its own words.
	Hardware map[string]string `json:"hardware,omitempty"`
}

// Disk is one disk of a machine.
type Disk struct {
	Key    string `json:"key"` // stable while the machine lives. Example: "vda"
	Size   int64  `json:"size"`
	Format string `json:"format,omitempty"` // raw, qcow2, …
	Path   string `json:"path,omitempty"`   // where the provider keeps it, for people
	Boot   bool   `json:"boot,omitempty"`
}

// NIC is one network card.
type NIC struct {
	MAC     string `json:"mac,omitempty"`
	Network string `json:"network,omitempty"`
}

// Network is a network that machines of this provider can be attached to.
type Network struct {
	Name     string `json:"name"`
	Isolated bool   `json:"isolated"` // nothing outside of it can be reached
}
