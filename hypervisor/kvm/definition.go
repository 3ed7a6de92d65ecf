package kvm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// Definition is a machine as its file NAME.json describes it. People write these
// files too: an unknown field is an error, so that a typing mistake is noticed.
type Definition struct {
	Name      string           `json:"name"`
	MemoryMiB int              `json:"memory_mib"`
	CPUs      int              `json:"cpus"`
	Disks     []DiskDefinition `json:"disks"`
	NICs      []hypervisor.NIC `json:"nics,omitempty"`
	// Network is "isolated", "user", "bridge NAME", or empty for no network card.
	Network string `json:"network,omitempty"`

	// Kernel, Initrd and Append boot a kernel directly, without a boot loader.
	Kernel string `json:"kernel,omitempty"`
	Initrd string `json:"initrd,omitempty"`
	Append string `json:"append,omitempty"`

	MachineType string `json:"machine_type,omitempty"` // q35 if empty
	CPUModel    string `json:"cpu_model,omitempty"`    // what the accelerator does best if empty
	// Firmware is the path of a UEFI image, and FirmwareVars of the machine's own
	// variables; empty for a BIOS.
	Firmware     string `json:"firmware,omitempty"`
	FirmwareVars string `json:"firmware_vars,omitempty"`
	DiskBus      string `json:"disk_bus,omitempty"` // virtio (default) or sata
	GuestAgent   bool   `json:"guest_agent,omitempty"`

	// Owner is set on machines that Riparo created; only these it removes.
	Owner string `json:"owner,omitempty"`
	// Fenced keeps the machine from starting while it is true.
	Fenced      bool   `json:"fenced,omitempty"`
	FenceReason string `json:"fence_reason,omitempty"`
	// Hardware is what the machine's origin said of it and this provider does not
	// use itself. It travels on with the machine.
	Hardware map[string]string `json:"hardware,omitempty"`
}

// DiskDefinition is one disk of a Definition.
type DiskDefinition struct {
	Key    string `json:"key"`
	Path   string `json:"path"`             // relative paths begin at the site's folder
	Format string `json:"format"`           // raw or qcow2
	Boot   bool   `json:"boot,omitempty"`   // boots first
	Serial string `json:"serial,omitempty"` // what the guest sees; derived if empty
	// Backing is the NBD URI below an overlay, until Flatten made it independent.
	Backing string `json:"backing,omitempty"`
}

var (
	// machineName is also a file name and part of a socket's path.
	machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	diskKey     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
)

// maxDisks is what fits on a machine's PCI bus beside its other devices.
const maxDisks = 24

// check reports what is wrong with a definition, or nil.
func (d *Definition) check() error {
	switch {
	case !machineName.MatchString(d.Name):
		return fmt.Errorf("the name %q: want up to 63 letters, digits, dots, hyphens and underscores", d.Name)
	case d.MemoryMiB < 16 || d.MemoryMiB > 1<<24:
		return fmt.Errorf("memory_mib %d: want 16 to %d", d.MemoryMiB, 1<<24)
	case d.CPUs < 1 || d.CPUs > 255:
		return fmt.Errorf("cpus %d: want 1 to 255", d.CPUs)
	case len(d.Disks) > maxDisks:
		return fmt.Errorf("%d disks: at most %d", len(d.Disks), maxDisks)
	case d.DiskBus != "" && d.DiskBus != "virtio" && d.DiskBus != "sata":
		return fmt.Errorf("disk_bus %q: want virtio or sata", d.DiskBus)
	case d.DiskBus == "sata" && len(d.Disks) > 6:
		return fmt.Errorf("%d disks on a SATA controller of 6 ports", len(d.Disks))
	}
	if _, err := parseNetwork(d.Network); err != nil {
		return err
	}
	for _, nic := range d.NICs {
		if nic.MAC != "" {
			if mac, err := net.ParseMAC(nic.MAC); err != nil || len(mac) != 6 {
				return fmt.Errorf("the MAC address %q is none", nic.MAC)
			}
		}
	}
	var keys []string
	for _, disk := range d.Disks {
		switch {
		case !diskKey.MatchString(disk.Key) || len(disk.Key) > fleece.MaxKeyLength:
			return fmt.Errorf("disk key %q: want up to %d letters, digits, hyphens and underscores", disk.Key, fleece.MaxKeyLength)
		case slices.Contains(keys, disk.Key):
			return fmt.Errorf("two disks have the key %s", disk.Key)
		case disk.Format != "raw" && disk.Format != "qcow2":
			return fmt.Errorf("disk %s has the format %q: want raw or qcow2", disk.Key, disk.Format)
		case disk.Path == "":
			return fmt.Errorf("disk %s has no path", disk.Key)
		case disk.Backing != "" && disk.Format != "qcow2":
			return fmt.Errorf("disk %s has a backing but is not qcow2", disk.Key)
		}
		keys = append(keys, disk.Key)
	}
	return nil
}

// serial is what the guest sees of a disk's identity. It says to whom the disk
// belongs, so that a guest, and evidence taken from it, can tell a replica's disk
// from its source's. virtio-blk shows at most 20 bytes.
func (d *Definition) serial(disk DiskDefinition) string {
	if disk.Serial != "" {
		return disk.Serial
	}
	owner := d.Owner
	if owner == "" {
		owner = d.Name
	}
	return Serial(owner, disk.Key)
}

// load reads the definition of a machine; hypervisor.ErrNoMachine if there is none.
func (s *Site) load(ref hypervisor.Ref) (*Definition, error) {
	name := string(ref)
	if !machineName.MatchString(name) {
		return nil, fmt.Errorf("%q: %w", name, hypervisor.ErrNoMachine)
	}
	content, err := os.ReadFile(s.definitionPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w", name, hypervisor.ErrNoMachine)
	}
	if err != nil {
		return nil, fmt.Errorf("read the definition of %s: %w", name, err)
	}
	d, err := parseDefinition(content)
	if err == nil && d.Name != name {
		err = fmt.Errorf("it names the machine %q", d.Name)
	}
	if err != nil {
		return nil, &replication.Problem{
			Code: "kvm.definition", Cause: fmt.Sprintf("the definition %s is not valid: %v", s.definitionPath(name), err),
			Effect: "the machine cannot be used", Action: "correct the file", Remedy: replication.Stop, Err: err,
		}
	}
	return d, nil
}

func parseDefinition(content []byte) (*Definition, error) {
	var d Definition
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return nil, err
	}
	return &d, d.check()
}

// Define writes a machine's definition, replacing an older one. It is for whoever
// sets up machines; Riparo's own come from Create.
func (s *Site) Define(d Definition) error {
	if err := d.check(); err != nil {
		return fmt.Errorf("define machine %s: %w", d.Name, err)
	}
	if err := writeJSON(s.definitionPath(d.Name), d); err != nil {
		return fmt.Errorf("define machine %s: %w", d.Name, err)
	}
	return nil
}

// writeJSON replaces a file as a whole: a reader sees the old content or the new.
func writeJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = file.Write(append(content, '\n'))
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}

func (s *Site) definitionPath(name string) string { return filepath.Join(s.folder, name+".json") }

// diskPath is where a disk's image lies.
func (s *Site) diskPath(disk DiskDefinition) string {
	if filepath.IsAbs(disk.Path) {
		return disk.Path
	}
	return filepath.Join(s.folder, disk.Path)
}

// network is a parsed Definition.Network.
type network struct {
	kind   string // "", user, isolated, bridge
	bridge string
}

var bridgeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)

func parseNetwork(text string) (network, error) {
	kind, bridge, _ := strings.Cut(text, " ")
	switch {
	case (kind == "" || kind == "user" || kind == "isolated") && bridge == "":
		return network{kind: kind}, nil
	case kind == "bridge" && bridgeName.MatchString(bridge):
		return network{kind, bridge}, nil
	}
	return network{}, fmt.Errorf("network %q: want user, isolated, or bridge and its name", text)
}
