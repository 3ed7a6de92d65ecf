package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"riparo/hypervisor"
	"riparo/replication"
)

// Kind is how a Site describes itself.
const Kind = "kvm-qmp"

// Options of a site; the zero value is good.
type Options struct {
	// Emulator is the QEMU program; "qemu-system-x86_64" if empty.
	Emulator string
	// Accelerator is "tcg" or "kvm"; empty to find out by booting something.
	Accelerator string
	// Scratch is where captures keep old content; a folder beside the machine's
	// run-time files if empty. A file system of its own keeps production safe from
	// running out of room.
	Scratch string
	// ScratchReserve is how much room captures leave free: they are given up
	// rather than taking it. 0 is DefaultScratchReserve, below 0 none.
	ScratchReserve int64
	// ScratchLimit is the most that the capture of one machine may take; 0 is no
	// limit.
	ScratchLimit int64
}

// DefaultScratchReserve leaves room for the machines' own sparse disks to grow while
// somebody reads the warning.
const DefaultScratchReserve = 1 << 30

// Site is a folder of machines that run under QEMU, without a management daemon. It
// is a [hypervisor.Provider] with every capability.
type Site struct {
	folder  string
	options Options

	mu       sync.Mutex // guards what follows
	machines map[string]*seat
}

// seat is what this process holds of one machine.
type seat struct {
	lock    chan struct{} // one operation at a time; holds a token when free
	capture *capture      // the open one, or nil; guarded by lock
	storage *storage      // guarded by Site.mu
}

var (
	_ hypervisor.Provider      = (*Site)(nil)
	_ hypervisor.Watcher       = (*Site)(nil)
	_ hypervisor.ChangeReader  = (*Site)(nil)
	_ hypervisor.OverlayBooter = (*Site)(nil)
	_ hypervisor.DiskOpener    = (*Site)(nil)
	_ hypervisor.ConsoleReader = (*Site)(nil)
	_ hypervisor.Fencer        = (*Site)(nil)
	_ hypervisor.Settler       = (*Site)(nil)
)

// Open opens the site in a folder, which must exist. What a crash left under way in its
// machines [Site.Settle] ends.
func Open(_ context.Context, folder string, options Options) (*Site, error) {
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return nil, fmt.Errorf("open site %s: %w", folder, err)
	}
	if info, err := os.Stat(absolute); err != nil || !info.IsDir() {
		if err == nil {
			err = errors.New("it is not a folder")
		}
		return nil, &replication.Problem{
			Code: "kvm.folder", Cause: fmt.Sprintf("the site's folder %s cannot be opened: %v", absolute, err), Effect: "its machines cannot be reached",
			Action: "check the address of the site and that this user may enter the folder", Remedy: replication.Stop, Err: err,
		}
	}
	if options.Emulator == "" {
		options.Emulator = "qemu-system-x86_64"
	}
	if options.Emulator, err = exec.LookPath(options.Emulator); err != nil {
		return nil, &replication.Problem{
			Code: "kvm.emulator", Cause: fmt.Sprintf("QEMU is not installed here: %v", err), Effect: "machines of this site cannot run",
			Action: "install qemu-system-x86 and qemu-utils", Remedy: replication.Stop, Err: err,
		}
	}
	if options.ScratchReserve == 0 {
		options.ScratchReserve = DefaultScratchReserve
	}
	return &Site{folder: absolute, options: options, machines: map[string]*seat{}}, nil
}

// Describe says what the site is.
func (s *Site) Describe() hypervisor.Description {
	return hypervisor.Description{Kind: Kind, Address: s.folder}
}

// discoverAtOnce bounds how many machines are asked side by side.
const discoverAtOnce = 16

// Discover lists the machines. One whose definition cannot be read is listed with
// that as its obstacle.
func (s *Site) Discover(ctx context.Context) ([]hypervisor.Machine, error) {
	names, err := s.names()
	if err != nil {
		return nil, &replication.Problem{
			Code: "kvm.folder", Cause: fmt.Sprintf("the site's folder %s cannot be read: %v", s.folder, err), Effect: "its machines are not known",
			Action: "check that the folder is there and that this user may read it", Remedy: replication.Retry, Err: err,
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	machines := make([]hypervisor.Machine, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(discoverAtOnce)
	for i, name := range names {
		group.Go(func() error {
			m, err := s.Machine(ctx, hypervisor.Ref(name))
			if err != nil {
				m = hypervisor.Machine{Ref: hypervisor.Ref(name), Name: name, Power: hypervisor.PowerUnknown, Obstacles: []string{err.Error()}}
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

// names lists the machines by their definitions.
func (s *Site) names() ([]string, error) {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), ".json"); ok && machineName.MatchString(name) && !entry.IsDir() {
			names = append(names, name)
		}
	}
	return names, nil
}

// Machine reports one machine.
func (s *Site) Machine(ctx context.Context, ref hypervisor.Ref) (hypervisor.Machine, error) {
	d, err := s.load(ref)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	r, err := s.readRecord(d.Name)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	state, why := s.observeOr(ctx, d.Name)
	if state == guestDown {
		// The memory of a machine that powered down by itself is given back.
		s.settleIfIdle(ctx, d)
	}
	m := hypervisor.Machine{
		Ref: ref, Name: d.Name, Power: state.power(), CPUs: d.CPUs, MemoryMiB: d.MemoryMiB, GuestAgent: d.GuestAgent,
		Replica: d.Owner != "", Owner: d.Owner, Fenced: d.Fenced, Hardware: s.hardware(d),
	}
	if m.Power == hypervisor.Running || m.Power == hypervisor.Suspended {
		m.Started, m.BootID = r.Started, r.BootID
	}
	if d.Network != "" {
		for _, nic := range d.NICs {
			m.NICs = append(m.NICs, hypervisor.NIC{MAC: nic.MAC, Network: d.Network})
		}
		if len(d.NICs) == 0 {
			m.NICs = []hypervisor.NIC{{Network: d.Network}}
		}
	}
	m.Disks, m.Obstacles = s.disks(d)
	if errors.Is(why, errLost) {
		m.Obstacles = append(m.Obstacles, "its QEMU runs and the sockets to it are gone: shut its guest down from within, or end that process, then start the machine again")
	}
	return m, nil
}

// hardware is what it takes to build an equal machine.
func (s *Site) hardware(d *Definition) map[string]string {
	h := map[string]string{"uuid": s.uuid(d)}
	for key, value := range d.Hardware {
		h[key] = value
	}
	for key, value := range map[string]string{
		"kernel": d.Kernel, "initrd": d.Initrd, "append": d.Append, "machine_type": d.MachineType, "cpu_model": d.CPUModel,
		"firmware": d.Firmware, "firmware_vars": d.FirmwareVars, "disk_bus": d.DiskBus,
	} {
		if value != "" {
			h[key] = value
		}
	}
	if d.GuestAgent {
		h["guest_agent"] = "true"
	}
	return h
}

// Networks lists what machines can be attached to: QEMU's user network, its closed
// form, and the bridges of this host.
func (s *Site) Networks(context.Context) ([]hypervisor.Network, error) {
	networks := []hypervisor.Network{{Name: "user"}, {Name: "isolated", Isolated: true}}
	bridges, err := filepath.Glob("/sys/class/net/*/bridge")
	if err != nil {
		return nil, err
	}
	for _, path := range bridges {
		networks = append(networks, hypervisor.Network{Name: "bridge " + filepath.Base(filepath.Dir(path))})
	}
	return networks, nil
}

// closeWait is how long Close waits for operations under way.
const closeWait = 10 * time.Second

// Close ends what this process holds of the machines: open captures, which the next
// one rolls back, and open disks of stopped machines. Machines go on running.
func (s *Site) Close() error {
	s.mu.Lock()
	seats := slices.Collect(maps.Values(s.machines))
	s.mu.Unlock()
	busy := time.NewTimer(closeWait)
	defer busy.Stop()
	var err error
	for _, p := range seats {
		select {
		case <-p.lock:
		case <-busy.C:
			return errors.Join(err, fmt.Errorf("close site %s: a machine is busy", s.folder))
		}
		if p.capture != nil {
			p.capture.supersede()
			p.capture = nil
		}
		s.mu.Lock()
		st := p.storage
		p.storage = nil
		s.mu.Unlock()
		if st != nil {
			err = errors.Join(err, st.end())
		}
		p.lock <- struct{}{}
	}
	return err
}

// seat is this process's part of a machine.
func (s *Site) seat(name string) *seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.machines[name]
	if p == nil {
		p = &seat{lock: make(chan struct{}, 1)}
		p.lock <- struct{}{}
		s.machines[name] = p
	}
	return p
}

// hold begins an operation on a machine: one at a time, in this process and among
// processes.
func (s *Site) hold(ctx context.Context, name string) (*seat, func(), error) {
	p := s.seat(name)
	select {
	case <-p.lock:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("machine %s is busy: %w", name, context.Cause(ctx))
	}
	unlock := func() {}
	err := s.makeRunFolders(name)
	if err == nil {
		unlock, err = lockFile(ctx, s.runFile(name, "lock"))
	}
	if err != nil {
		p.lock <- struct{}{}
		return nil, nil, fmt.Errorf("machine %s: %w", name, err)
	}
	return p, func() { unlock(); p.lock <- struct{}{} }, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
