package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
	"riparo/replication/nbd"
)

// reconnectDelay is how long the guest's reads wait for the NBD server below an
// overlay to come back, in seconds; see package kvm.
const reconnectDelay = 1800

// backingAnswer is how long a recovery point that a disk is to be based on may take to
// be there.
const backingAnswer = 20 * time.Second

// Create makes a domain with new disks. The domain is defined last, so that it is
// whole or not there.
func (h *Host) Create(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	if err := ctx.Err(); err != nil {
		return hypervisor.Machine{}, err
	}
	if err := h.checkSpec(ctx, spec); err != nil {
		return hypervisor.Machine{}, err
	}
	// Creations by one name take turns, whatever UUIDs libvirt gives.
	p, release, err := h.hold(ctx, hypervisor.Ref("name "+spec.Name))
	if err != nil {
		return hypervisor.Machine{}, err
	}
	defer release()
	old, err := call(ctx, h, func(l *rpc.Libvirt) (rpc.Domain, error) { return l.DomainLookupByName(spec.Name) })
	if err == nil {
		d, err := h.describe(ctx, old, rpc.DomainXMLInactive)
		if err != nil {
			return hypervisor.Machine{}, err
		}
		if d.marked().Owner != spec.Owner {
			return hypervisor.Machine{}, &replication.Problem{
				Code: "kvm.name-taken", Cause: fmt.Sprintf("the host has another machine named %s", spec.Name), Effect: "nothing was made",
				Action: "choose another name, or remove that machine", Remedy: replication.Stop,
			}
		}
		if err := h.remove(ctx, old, d, p); err != nil {
			return hypervisor.Machine{}, err
		}
	} else if !errors.Is(err, hypervisor.ErrNoMachine) {
		return hypervisor.Machine{}, err
	}
	dom, err := h.create(ctx, spec)
	if err != nil {
		return hypervisor.Machine{}, fmt.Errorf("create machine %s: %w", spec.Name, err)
	}
	return h.report(ctx, dom)
}

func (h *Host) checkSpec(ctx context.Context, spec hypervisor.Spec) error {
	refuse := func(code, cause, action string) error {
		return &replication.Problem{Code: code, Cause: fmt.Sprintf("machine %s cannot be made: %s", spec.Name, cause), Effect: "nothing was made", Action: action, Remedy: replication.Stop}
	}
	if spec.Name == "" || spec.Owner == "" {
		return refuse("kvm.spec", "it has no name or no owner", "correct what is asked for")
	}
	for _, d := range spec.Disks {
		if d.Size <= 0 || d.Size%512 != 0 || d.Key == "" || len(d.Key) > fleece.MaxKeyLength {
			return refuse("kvm.spec", fmt.Sprintf("disk %q of %d bytes: want a short key and a multiple of 512", d.Key, d.Size), "correct what is asked for")
		}
	}
	if spec.Network != "" && !spec.Isolated {
		networks, err := h.Networks(ctx)
		if err != nil {
			return err
		}
		known := false
		for _, n := range networks {
			known = known || n.Name == spec.Network
		}
		if !known {
			return refuse("kvm.network", fmt.Sprintf("the host has no network %s", spec.Network), "make the network, or choose another one")
		}
	}
	answering, cancel := context.WithTimeout(ctx, backingAnswer)
	defer cancel()
	for _, d := range spec.Disks {
		if d.Backing == "" {
			continue
		}
		view, err := nbd.Dial(answering, d.Backing, nbd.Options{})
		if err != nil {
			return fmt.Errorf("machine %s was not made: disk %s: %w", spec.Name, d.Key, err)
		}
		view.Close()
	}
	return nil
}

// ownFolder holds the disks of a machine that Create makes.
func (h *Host) ownFolder(name string) string { return path.Join(h.options.Folder, "disks", name) }

func (h *Host) create(ctx context.Context, spec hypervisor.Spec) (rpc.Domain, error) {
	// What an interrupted Create left before it could define the domain.
	if err := h.place.remove(ctx, h.ownFolder(spec.Name)); err != nil {
		return rpc.Domain{}, err
	}
	d, err := h.build(ctx, spec)
	if err != nil {
		return rpc.Domain{}, err
	}
	for _, disk := range spec.Disks {
		if err := h.place.make(ctx, h.imagePath(spec.Name, disk.Key), fleece.EmptyImage(disk.Size, disk.Backing)); err != nil {
			return rpc.Domain{}, err
		}
	}
	text, err := encode(d)
	if err != nil {
		return rpc.Domain{}, err
	}
	return call(ctx, h, func(l *rpc.Libvirt) (rpc.Domain, error) { return l.DomainDefineXML(text) })
}

func (h *Host) imagePath(name, key string) string { return path.Join(h.ownFolder(name), key+".qcow2") }

// build is the definition of a machine from its specification.
func (h *Host) build(ctx context.Context, spec hypervisor.Spec) (*domain, error) {
	hardware := maps.Clone(spec.Hardware)
	take := func(key string) string {
		value := hardware[key]
		delete(hardware, key)
		return value
	}
	d := &domain{
		Name: spec.Name, Memory: memory{Unit: "MiB", Value: int64(spec.MemoryMiB)}, VCPU: spec.CPUs,
		OS: system{Type: osType{Machine: take("machine_type"), Value: "hvm"}, Kernel: take("kernel"), Initrd: take("initrd"), Cmdline: take("append")},
	}
	if d.OS.Type.Machine == "" {
		d.OS.Type.Machine = "q35"
	}
	if firmware := take("firmware"); firmware != "" {
		d.OS.Loader = &loader{ReadOnly: "yes", Type: "pflash", Path: firmware}
	}
	var err error
	if d.Type, err = h.domainType(ctx, take(hardwareType)); err != nil {
		return nil, err
	}
	d.Features = &raw{"<acpi/><apic/>"}
	if text := take(hardwareFeatures); text != "" {
		d.Features = &raw{text}
	}
	for key, into := range map[string]**element{hardwareCPU: &d.CPU, hardwareClock: &d.Clock} {
		if text := take(key); text != "" {
			*into = &element{}
			if err := decode(text, *into); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	if d.CPU == nil || d.Type == "qemu" { // a host's own processor exists with kvm only
		d.CPU = &element{}
		_ = decode(`<cpu mode='maximum'/>`, d.CPU)
	}
	bus := take("disk_bus")
	if bus == "" {
		bus = "virtio"
	}
	m := mark{Owner: spec.Owner}
	for i, disk := range spec.Disks {
		built, err := h.buildDisk(spec, disk, bus)
		if err != nil {
			return nil, err
		}
		if disk.Boot || i == 0 && !anyBoots(spec.Disks) {
			built.Boot = &boot{Order: 1}
		}
		d.Devices.Disks = append(d.Devices.Disks, built)
	}
	if take("guest_agent") == "true" {
		d.Devices.Channels = []channel{{Type: "unix", Target: target{Type: "virtio", Name: agentChannel}}}
	}
	port := 0
	d.Devices.Serials = []serialPort{{Type: "file", Source: &source{Path: path.Join(h.ownFolder(spec.Name), "console")}, Target: &target{Port: &port}}}
	d.Devices.MemBalloon = &modelElement{Model: "none"}
	if m.Network, err = h.buildCards(ctx, spec, d); err != nil {
		return nil, err
	}
	delete(hardware, "uuid") // libvirt allows an identity once per host
	delete(hardware, "cpu_model")
	m.Hardware = hardwareEntries(hardware)
	d.Metadata = &struct {
		Mark *mark `xml:"urn:riparo:machine:1 machine"`
	}{&m}
	return d, nil
}

func anyBoots(disks []hypervisor.DiskSpec) bool {
	for _, d := range disks {
		if d.Boot {
			return true
		}
	}
	return false
}

// domainType of a machine: what was asked for, what its origin had, or what works.
func (h *Host) domainType(ctx context.Context, origin string) (string, error) {
	if h.options.DomainType != "" {
		return h.options.DomainType, nil
	}
	if !h.place.local() {
		if origin == "" {
			origin = "kvm"
		}
		return origin, nil
	}
	// libvirt offers kvm wherever /dev/kvm exists, and a machine of a host that has it
	// may come to one that does not.
	accelerator, err := kvm.Accelerator(ctx, "qemu-system-x86_64", "")
	if accelerator == "tcg" {
		accelerator = "qemu"
	}
	return accelerator, err
}

func (h *Host) buildDisk(spec hypervisor.Spec, disk hypervisor.DiskSpec, bus string) (disk_ disk, err error) {
	disk_.Type, disk_.Device = "file", "disk"
	disk_.Driver = &driver{Name: "qemu", Type: "qcow2", Discard: "unmap"}
	disk_.Source = &source{File: h.imagePath(spec.Name, disk.Key)}
	disk_.Target = target{Device: disk.Key, Bus: bus}
	disk_.Serial = kvm.Serial(spec.Owner, disk.Key)
	disk_.Chain = &chain{}
	if disk.Backing == "" {
		return disk_, nil
	}
	below, err := sourceOf(disk.Backing)
	if err != nil {
		return disk_, fmt.Errorf("disk %s: %w", disk.Key, err)
	}
	disk_.Chain = &chain{Type: "network", Format: &format{"raw"}, Source: below, Below: &chain{}}
	return disk_, nil
}

// sourceOf is an NBD URI in libvirt's words.
func sourceOf(uri string) (*source, error) {
	a, err := nbd.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	if a.TLS {
		return nil, errors.New("NBD with TLS below an overlay is not supported: use a unix socket, or a network that is trusted")
	}
	s := &source{Protocol: "nbd", Name: a.Export, Reconnect: &reconnect{reconnectDelay}}
	if a.Network == "unix" {
		s.Host = &nbdHost{Transport: "unix", Socket: a.Address}
		return s, nil
	}
	host, port, err := net.SplitHostPort(a.Address)
	s.Host = &nbdHost{Name: host, Port: port}
	return s, err
}

// uriOf is the opposite.
func uriOf(s *source) string {
	if s.Host == nil {
		return ""
	}
	if s.Host.Transport == "unix" {
		return nbd.URI("unix", s.Host.Socket, s.Name)
	}
	return nbd.URI("tcp", net.JoinHostPort(s.Host.Name, s.Host.Port), s.Name)
}

// Remove ends a domain that Create made, with its disks.
func (h *Host) Remove(ctx context.Context, ref hypervisor.Ref) error {
	p, release, err := h.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer release()
	dom, err := h.find(ctx, ref)
	if errors.Is(err, hypervisor.ErrNoMachine) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := h.describe(ctx, dom, rpc.DomainXMLInactive)
	if err != nil {
		return err
	}
	if d.marked().Owner == "" {
		return fmt.Errorf("remove %s: %w", d.Name, hypervisor.ErrNotOurs)
	}
	return h.remove(ctx, dom, d, p)
}

// remove deletes the disks before the definition, so that it can be repeated from
// wherever it was interrupted.
func (h *Host) remove(ctx context.Context, dom rpc.Domain, d *domain, p *seat) error {
	if _, err := h.stop(ctx, dom, p, 0); err != nil {
		return fmt.Errorf("remove %s: %w", d.Name, err)
	}
	for _, folder := range []string{h.ownFolder(d.Name), path.Join(h.options.Folder, "scratch", d.UUID)} {
		if err := h.place.remove(ctx, folder); err != nil {
			return fmt.Errorf("remove the disks of %s: %w", d.Name, err)
		}
	}
	if name := d.marked().Network; name != "" {
		if err := h.removeNetwork(ctx, name); err != nil {
			return fmt.Errorf("remove the network of %s: %w", d.Name, err)
		}
	}
	err := do(ctx, h, func(l *rpc.Libvirt) error {
		return l.DomainUndefineFlags(dom, rpc.DomainUndefineManagedSave|rpc.DomainUndefineSnapshotsMetadata|rpc.DomainUndefineNvram|rpc.DomainUndefineCheckpointsMetadata)
	})
	if err == nil || errors.Is(err, hypervisor.ErrNoMachine) {
		err = h.forgetShadow(d.UUID)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", d.Name, err)
	}
	return nil
}

// bridgeOf is a bridge name for a network of ours: the kernel allows 15 bytes.
func bridgeOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "rip" + hex.EncodeToString(sum[:5])
}
