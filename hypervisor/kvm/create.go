package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/nbd"
)

// Create makes a machine with new disks: empty ones, and overlays on NBD views. The
// definition is written last, so that a machine is whole or not there.
func (s *Site) Create(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	d, err := definitionOf(spec)
	if err != nil {
		return hypervisor.Machine{}, &replication.Problem{
			Code: "kvm.spec", Cause: fmt.Sprintf("machine %s cannot be made: %v", spec.Name, err), Effect: "nothing was made",
			Action: "correct what is asked for", Remedy: replication.Stop, Err: err,
		}
	}
	if err := s.checkSurroundings(ctx, d); err != nil {
		return hypervisor.Machine{}, err
	}
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	err = s.create(ctx, d, spec, p)
	release()
	if err != nil {
		return hypervisor.Machine{}, err
	}
	return s.Machine(ctx, hypervisor.Ref(d.Name))
}

func (s *Site) create(ctx context.Context, d *Definition, spec hypervisor.Spec, p *seat) error {
	switch old, err := s.load(hypervisor.Ref(d.Name)); {
	case errors.Is(err, hypervisor.ErrNoMachine):
	case err != nil:
		return err
	case old.Owner != d.Owner:
		return &replication.Problem{
			Code: "kvm.name-taken", Cause: fmt.Sprintf("the site has another machine named %s", d.Name), Effect: "nothing was made",
			Action: "choose another name, or remove that machine", Remedy: replication.Stop,
		}
	default:
		if err := s.remove(ctx, old, p); err != nil {
			return err
		}
	}
	// Files that an interrupted Create left, before it could write the definition.
	if err := os.RemoveAll(s.ownDisks(d.Name)); err != nil {
		return err
	}
	for i, disk := range spec.Disks {
		if err := createImage(s.diskPath(d.Disks[i]), disk.Size, disk.Backing); err != nil {
			return err
		}
	}
	if err := s.makeRunFolders(d.Name); err != nil {
		return err
	}
	return s.Define(*d)
}

// backingAnswer is how long a recovery point that a disk is to be based on may take to
// be there.
const backingAnswer = 20 * time.Second

// checkSurroundings makes sure that what the machine will need exists: better now than
// at its start.
func (s *Site) checkSurroundings(ctx context.Context, d *Definition) error {
	if n, err := parseNetwork(d.Network); err == nil && n.kind == "bridge" && !exists("/sys/class/net/"+n.bridge+"/bridge") {
		return &replication.Problem{
			Code: "kvm.network", Cause: fmt.Sprintf("this host has no bridge named %s", n.bridge), Effect: fmt.Sprintf("machine %s was not made", d.Name),
			Action: "make the bridge, or choose another network", Remedy: replication.Stop,
		}
	}
	ctx, cancel := context.WithTimeout(ctx, backingAnswer)
	defer cancel()
	for _, disk := range d.Disks {
		if disk.Backing == "" {
			continue
		}
		view, err := nbd.Dial(ctx, disk.Backing, nbd.Options{})
		if err != nil {
			return fmt.Errorf("machine %s was not made: disk %s: %w", d.Name, disk.Key, err)
		}
		view.Close()
	}
	return ctx.Err()
}

// ownDisks is the folder of the disks that Create makes.
func (s *Site) ownDisks(name string) string { return filepath.Join(s.folder, "disks", name) }

// definitionOf takes from a spec what this provider understands; the rest of its
// Hardware is kept for whoever moves the machine on.
func definitionOf(spec hypervisor.Spec) (*Definition, error) {
	if spec.Owner == "" {
		return nil, errors.New("it has no owner")
	}
	hardware := maps.Clone(spec.Hardware)
	take := func(key string) string {
		value := hardware[key]
		delete(hardware, key)
		return value
	}
	d := &Definition{
		Name: spec.Name, Owner: spec.Owner, MemoryMiB: spec.MemoryMiB, CPUs: spec.CPUs, Network: spec.Network,
		Kernel: take("kernel"), Initrd: take("initrd"), Append: take("append"), MachineType: take("machine_type"), CPUModel: take("cpu_model"),
		Firmware: take("firmware"), FirmwareVars: take("firmware_vars"), DiskBus: take("disk_bus"), GuestAgent: take("guest_agent") == "true",
	}
	d.Hardware = hardware
	if spec.Isolated {
		d.Network = "isolated"
	}
	for _, nic := range spec.NICs {
		d.NICs = append(d.NICs, hypervisor.NIC{MAC: nic.MAC})
	}
	for _, disk := range spec.Disks {
		if disk.Size <= 0 || disk.Size%sector != 0 {
			return nil, fmt.Errorf("disk %s of %d bytes: QEMU wants a multiple of %d", disk.Key, disk.Size, sector)
		}
		if disk.Backing != "" {
			if _, err := nbd.ParseURI(disk.Backing); err != nil {
				return nil, fmt.Errorf("disk %s: %w", disk.Key, err)
			}
		}
		d.Disks = append(d.Disks, DiskDefinition{
			Key: disk.Key, Path: filepath.Join("disks", spec.Name, disk.Key+".qcow2"), Format: "qcow2", Boot: disk.Boot, Backing: disk.Backing,
		})
	}
	return d, d.check()
}

// Remove ends a machine that Create made, with its disks.
func (s *Site) Remove(ctx context.Context, ref hypervisor.Ref) error {
	d, err := s.load(ref)
	if errors.Is(err, hypervisor.ErrNoMachine) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.Owner == "" {
		return fmt.Errorf("remove %s: %w", d.Name, hypervisor.ErrNotOurs)
	}
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return err
	}
	defer release()
	return s.remove(ctx, d, p)
}

// remove deletes the definition after the disks and before the run-time files, so
// that it can be repeated from wherever it was interrupted.
func (s *Site) remove(ctx context.Context, d *Definition, p *seat) error {
	if _, err := s.stop(ctx, d, p, 0); err != nil {
		return err
	}
	unlock, err := s.lockDisks(ctx, d.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.RemoveAll(s.ownDisks(d.Name)); err != nil {
		return fmt.Errorf("remove the disks of %s: %w", d.Name, err)
	}
	if err := os.Remove(s.definitionPath(d.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", d.Name, err)
	}
	err = s.removeSockets(d.Name)
	for _, folder := range []string{s.scratch(d.Name), s.socketFolder(d.Name), s.runFolder(d.Name)} {
		err = errors.Join(err, os.RemoveAll(folder))
	}
	return err
}
