package kvm_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
)

// bootLimit is how long a guest may take to come to a line of its console. It takes
// 3 s on a quiet machine without virtualization.
const bootLimit = 90 * time.Second

// needGuests skips a test that boots guests, with the reason, where it cannot run;
// in CI a missing program is a failure.
func needGuests(t *testing.T) guest.Kit {
	t.Helper()
	if testing.Short() {
		t.Skip("boots real guests: left out of the short run")
	}
	lacking := guest.Missing()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking = append(lacking, program)
		}
	}
	if len(lacking) > 0 {
		missing(t, lacking...)
	}
	kit, err := guest.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return kit
}

// missing skips a test that needs what is not installed; in CI it fails.
func missing(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing on this machine: %v", programs)
	}
	t.Skipf("missing on this machine: %v", programs)
}

// site is a site in a folder of its own, whose machines are ended with the test.
type site struct {
	*kvm.Site
	t      *testing.T
	folder string
	kit    guest.Kit
}

func newSite(t *testing.T, options kvm.Options) *site {
	t.Helper()
	kit := needGuests(t)
	release, err := guest.Turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	folder := t.TempDir()
	options.Accelerator = "tcg"
	opened, err := kvm.Open(t.Context(), folder, options)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{opened, t, folder, kit}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		machines, err := s.Discover(ctx)
		if err != nil {
			t.Errorf("discover at the end: %v", err)
		}
		for _, m := range machines {
			if t.Failed() {
				console, _ := s.Console(ctx, m.Ref, 1000)
				t.Logf("machine %s %s, console: %s", m.Name, m.Power, console)
			}
			if err := s.Forget(ctx, m.Ref); err != nil {
				t.Errorf("forget %s at the end: %v", m.Name, err)
			}
			if _, err := s.Stop(ctx, m.Ref, 0); err != nil {
				t.Errorf("stop %s at the end: %v", m.Name, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// diskBytes is the size of the guests' disks: room for two minutes of counting.
const diskBytes = 96 << 20

// source defines a machine with two empty disks of a format that counts on them.
func (s *site) source(name, format string, more ...string) hypervisor.Ref {
	s.t.Helper()
	return s.define(name, map[string]string{"vda": format, "vdb": format}, more...)
}

// mixedSource defines one with a raw and a qcow2 disk.
func (s *site) mixedSource(name string, more ...string) hypervisor.Ref {
	s.t.Helper()
	return s.define(name, map[string]string{"vda": "raw", "vdb": "qcow2"}, more...)
}

func (s *site) define(name string, formats map[string]string, more ...string) hypervisor.Ref {
	s.t.Helper()
	d := kvm.Definition{
		Name: name, MemoryMiB: 192, CPUs: 1, GuestAgent: true, Network: "user",
		Kernel: s.kit.Kernel, Initrd: s.kit.Initrd, Append: guest.Append(guest.Count, more...),
	}
	for _, key := range []string{"vda", "vdb"} {
		path := filepath.Join(s.folder, name+"-"+key)
		s.run("qemu-img", "create", "-q", "-f", formats[key], path, "96M")
		d.Disks = append(d.Disks, kvm.DiskDefinition{Key: key, Path: path, Format: formats[key]})
	}
	if err := s.Define(d); err != nil {
		s.t.Fatal(err)
	}
	return hypervisor.Ref(name)
}

// reopen ends this side as a crash does: what it held is forgotten.
func (s *site) reopen(options kvm.Options) {
	s.t.Helper()
	options.Accelerator = "tcg"
	again, err := kvm.Open(s.t.Context(), s.folder, options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Site = again
}

// awaitPower waits until the machine does what it is expected to.
func (s *site) awaitPower(ref hypervisor.Ref, want hypervisor.Power) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), bootLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.power(ref) != want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("%s is %s, want %s", ref, s.power(ref), want)
		}
	}
}

func (s *site) run(program string, arguments ...string) string {
	s.t.Helper()
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %v: %v: %s", program, arguments, err, out)
	}
	return string(out)
}

func (s *site) start(ref hypervisor.Ref, options hypervisor.StartOptions) {
	s.t.Helper()
	if err := s.Start(s.t.Context(), ref, options); err != nil {
		s.t.Fatal(err)
	}
}

// console is what the machine printed since its start.
func (s *site) console(ref hypervisor.Ref) []byte {
	console, err := s.Console(s.t.Context(), ref, 1<<20)
	if err != nil {
		s.t.Fatal(err)
	}
	return console
}

// await waits for a line on the machine's console.
func (s *site) await(ref hypervisor.Ref, substring string) []byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), bootLimit)
	defer cancel()
	console, err := guest.WaitLine(ctx, func() []byte { return s.console(ref) }, substring)
	if err != nil {
		s.t.Fatalf("%s: %v", ref, err)
	}
	return console
}

// counter is the machine's last count; -1 if it has not counted yet.
func (s *site) counter(ref hypervisor.Ref) int {
	n, ok := guest.Counter(s.console(ref))
	if !ok {
		return -1
	}
	return n
}

// awaitCount waits until the machine has counted further than n.
func (s *site) awaitCount(ref hypervisor.Ref, n int) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), bootLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if now := s.counter(ref); now > n {
			return now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("%s does not count beyond %d; its console ends in %q", ref, n, tail(s.console(ref)))
		}
	}
}

func tail(b []byte) []byte { return b[max(0, len(b)-300):] }

func (s *site) power(ref hypervisor.Ref) hypervisor.Power {
	s.t.Helper()
	m, err := s.Machine(s.t.Context(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	return m.Power
}

// TestMachinesOutliveWhoStartedThemAndStopInOrder walks through the life of a
// machine as seen by two sites on the same folder, as after a restart of the daemon.
func TestMachinesOutliveWhoStartedThemAndStopInOrder(t *testing.T) {
	s := newSite(t, kvm.Options{})
	ctx := t.Context()
	ref := s.source("web01", "raw")
	if power := s.power(ref); power != hypervisor.Stopped {
		t.Fatalf("power before the start: %s", power)
	}
	s.start(ref, hypervisor.StartOptions{})
	s.start(ref, hypervisor.StartOptions{}) // harmless
	s.awaitCount(ref, 2)
	s.Close()

	again, err := kvm.Open(ctx, s.folder, kvm.Options{Accelerator: "tcg"})
	if err != nil {
		t.Fatal(err)
	}
	s.Site = again
	machines, err := s.Discover(ctx)
	if err != nil || len(machines) != 1 {
		t.Fatalf("discovered %+v, %v", machines, err)
	}
	m := machines[0]
	if m.Power != hypervisor.Running || len(m.Disks) != 2 || m.Disks[0].Size != diskBytes || m.BootID == "" || len(m.Obstacles) != 0 || m.Replica || !m.GuestAgent {
		t.Errorf("discovered %+v", m)
	}
	outcome, err := s.Stop(ctx, ref, bootLimit)
	if err != nil || outcome != hypervisor.ShutDown {
		t.Fatalf("stop with grace: %q, %v", outcome, err)
	}
	if console := s.console(ref); !has(console, "BYE") {
		t.Errorf("the guest did not end in order: %s", tail(console))
	}
	if outcome, err := s.Stop(ctx, ref, 0); err != nil || outcome != hypervisor.AlreadyStopped {
		t.Errorf("stop of a stopped machine: %q, %v", outcome, err)
	}
	if power := s.power(ref); power != hypervisor.Stopped {
		t.Errorf("power after the stop: %s", power)
	}
	s.start(ref, hypervisor.StartOptions{})
	s.awaitCount(ref, 4)
	if outcome, err := s.Stop(ctx, ref, 0); err != nil || outcome != hypervisor.PoweredOff {
		t.Errorf("stop without grace: %q, %v", outcome, err)
	}
}

func has(console []byte, words string) bool {
	_, ok := guest.Said(console, words)
	return ok
}
