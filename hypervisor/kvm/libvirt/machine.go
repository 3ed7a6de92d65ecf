package libvirt

import (
	"context"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"
	"golang.org/x/sync/errgroup"

	"riparo/hypervisor"
	"riparo/replication"
)

// discoverAtOnce bounds how many domains are asked about side by side.
const discoverAtOnce = 8

// Discover lists all domains, running and defined.
func (h *Host) Discover(ctx context.Context) ([]hypervisor.Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	list, err := call(ctx, h, func(l *rpc.Libvirt) ([]rpc.Domain, error) {
		list, _, err := l.ConnectListAllDomains(1, 0)
		return list, err
	})
	if err != nil {
		return nil, fmt.Errorf("discover: %w", err)
	}
	machines := make([]hypervisor.Machine, len(list))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(discoverAtOnce)
	for i, dom := range list {
		group.Go(func() error {
			m, err := h.report(ctx, dom)
			if err != nil {
				m = hypervisor.Machine{Ref: refOf(dom), Name: dom.Name, Power: hypervisor.PowerUnknown, Obstacles: []string{err.Error()}}
			}
			machines[i] = m
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return machines, nil
}

// Machine reports one domain.
func (h *Host) Machine(ctx context.Context, ref hypervisor.Ref) (hypervisor.Machine, error) {
	dom, err := h.find(ctx, ref)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	return h.report(ctx, dom)
}

// refOf is a domain's UUID.
func refOf(dom rpc.Domain) hypervisor.Ref { return hypervisor.Ref(uuidText(dom.UUID)) }

func uuidText(u rpc.UUID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// find looks a domain up by its UUID.
func (h *Host) find(ctx context.Context, ref hypervisor.Ref) (rpc.Domain, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(string(ref), "-", ""))
	if err != nil || len(b) != rpc.UUIDBuflen {
		return rpc.Domain{}, fmt.Errorf("%q: %w", ref, hypervisor.ErrNoMachine)
	}
	return call(ctx, h, func(l *rpc.Libvirt) (rpc.Domain, error) { return l.DomainLookupByUUID(rpc.UUID(b)) })
}

// describe gets a domain's definition: the one in force, or the one of the next start.
func (h *Host) describe(ctx context.Context, dom rpc.Domain, flags rpc.DomainXMLFlags) (*domain, error) {
	text, err := call(ctx, h, func(l *rpc.Libvirt) (string, error) { return l.DomainGetXMLDesc(dom, flags) })
	if err != nil {
		return nil, fmt.Errorf("definition of %s: %w", dom.Name, err)
	}
	var d domain
	if err := decode(text, &d); err != nil {
		return nil, fmt.Errorf("definition of %s: %w", dom.Name, err)
	}
	return &d, nil
}

// power asks what a domain does, and why it is off.
func (h *Host) power(ctx context.Context, dom rpc.Domain) (rpc.DomainState, rpc.DomainShutoffReason, error) {
	state, reason, err := h.powerWhy(ctx, dom)
	return state, rpc.DomainShutoffReason(reason), err
}

// powerWhy asks what a domain does, and why: what the reason means depends on the state.
func (h *Host) powerWhy(ctx context.Context, dom rpc.Domain) (rpc.DomainState, int32, error) {
	type pair struct{ state, reason int32 }
	p, err := call(ctx, h, func(l *rpc.Libvirt) (pair, error) {
		state, reason, err := l.DomainGetState(dom, 0)
		return pair{state, reason}, err
	})
	return rpc.DomainState(p.state), p.reason, err
}

func powerOf(state rpc.DomainState) hypervisor.Power {
	switch state {
	case rpc.DomainRunning, rpc.DomainBlocked, rpc.DomainShutdown:
		return hypervisor.Running
	case rpc.DomainPaused, rpc.DomainPmsuspended, rpc.DomainCrashed:
		return hypervisor.Suspended
	case rpc.DomainShutoff:
		return hypervisor.Stopped
	}
	return hypervisor.PowerUnknown
}

func (h *Host) report(ctx context.Context, dom rpc.Domain) (hypervisor.Machine, error) {
	d, err := h.describe(ctx, dom, 0)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	state, _, err := h.power(ctx, dom)
	if err != nil {
		return hypervisor.Machine{}, fmt.Errorf("power of %s: %w", dom.Name, err)
	}
	m := hypervisor.Machine{
		Ref: refOf(dom), Name: d.Name, Power: powerOf(state), CPUs: d.VCPU, MemoryMiB: d.Memory.mib(), GuestAgent: d.agent(),
		Replica: d.marked().Owner != "", Owner: d.marked().Owner, Fenced: d.marked().Fenced, Hardware: h.hardware(d),
	}
	if d.ID > 0 && m.Power != hypervisor.Stopped {
		m.BootID = "domain-" + strconv.Itoa(d.ID)
	}
	disks := d.disks()
	sizeOf, err := h.sizes(ctx, dom, d)
	if err != nil {
		return hypervisor.Machine{}, fmt.Errorf("disks of %s: %w", dom.Name, err)
	}
	first := slices.IndexFunc(disks, func(k disk) bool { return k.Boot != nil })
	for i, k := range disks {
		reported := hypervisor.Disk{Key: k.Target.Device, Path: k.Source.path(), Boot: i == max(0, first)}
		if k.Driver != nil {
			reported.Format = k.Driver.Type
		}
		if why := obstacle(k); why != "" {
			m.Obstacles = append(m.Obstacles, fmt.Sprintf("disk %s %s", k.Target.Device, why))
		} else if reported.Size, err = sizeOf(k); err != nil {
			m.Obstacles = append(m.Obstacles, fmt.Sprintf("disk %s cannot be read (%v): put its image in place", k.Target.Device, err))
		}
		m.Disks = append(m.Disks, reported)
	}
	for _, card := range d.Devices.Interfaces {
		nic := hypervisor.NIC{Network: networkOf(card)}
		if card.MAC != nil {
			nic.MAC = card.MAC.Address
		}
		m.NICs = append(m.NICs, nic)
	}
	return m, nil
}

// obstacle says why a disk cannot be captured, with what to do about it.
func obstacle(k disk) string {
	switch {
	case k.Shareable != nil:
		return "is shared with other machines: give each its own disk"
	case k.Type != "file" && k.Type != "block":
		return fmt.Sprintf("is of type %s: only files and block devices are supported", k.Type)
	case k.Source.path() == "":
		return "has no image: attach one or remove the disk"
	case k.Driver == nil || k.Driver.Type != "raw" && k.Driver.Type != "qcow2":
		return "is neither raw nor qcow2: convert it"
	}
	return ""
}

// networkOf is the name that Networks gives to what a card is attached to.
func networkOf(card netCard) string {
	switch {
	case card.Type == "network" && card.Source != nil:
		return card.Source.Network
	case card.Type == "bridge" && card.Source != nil:
		return "bridge " + card.Source.Bridge
	case card.Type == "user" && card.Link != nil && card.Link.State == "down":
		return isolatedUser
	}
	return card.Type
}

// Keys of Machine.Hardware that only libvirt understands: parts of the definition as
// they stand there.
const (
	hardwareFeatures = "libvirt.features"
	hardwareCPU      = "libvirt.cpu"
	hardwareClock    = "libvirt.clock"
	hardwareType     = "libvirt.type"
)

// hardware is what it takes to build an equal machine.
func (h *Host) hardware(d *domain) map[string]string {
	out := map[string]string{}
	for _, e := range d.marked().Hardware {
		out[e.Key] = e.Value
	}
	set := func(key, value string) {
		if value != "" {
			out[key] = value
		}
	}
	set("kernel", d.OS.Kernel)
	set("initrd", d.OS.Initrd)
	set("append", d.OS.Cmdline)
	set(hardwareType, d.Type)
	if strings.Contains(d.OS.Type.Machine, "q35") {
		set("machine_type", "q35") // a version that another host may not have is left out
	} else if strings.Contains(d.OS.Type.Machine, "i440fx") {
		set("machine_type", "pc")
	}
	if d.OS.Loader != nil {
		set("firmware", strings.TrimSpace(d.OS.Loader.Path))
	}
	if disks := d.disks(); len(disks) > 0 {
		set("disk_bus", disks[0].Target.Bus)
	}
	if d.agent() {
		set("guest_agent", "true")
	}
	if d.Features != nil {
		set(hardwareFeatures, strings.TrimSpace(d.Features.Inner))
	}
	for key, e := range map[string]*element{hardwareCPU: d.CPU, hardwareClock: d.Clock} {
		if e != nil {
			if text, err := xml.Marshal(e); err == nil {
				set(key, string(text))
			}
		}
	}
	return out
}

// hardwareEntries are what Create keeps in the mark because it has no other place.
func hardwareEntries(h map[string]string) []entry {
	var entries []entry
	for _, key := range slices.Sorted(maps.Keys(h)) {
		entries = append(entries, entry{key, h[key]})
	}
	return entries
}

// noDisk is what is said of a key that a domain does not have.
func noDisk(name, key string, remedy replication.Remedy) error {
	return &replication.Problem{
		Code: "kvm.no-disk", Cause: fmt.Sprintf("%s has no disk %s (any more)", name, key), Effect: "nothing was done",
		Action: "discover the machine again and choose among its disks", Remedy: remedy,
	}
}
