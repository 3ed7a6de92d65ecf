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
// 3 s on a quiet machine without virtualization, and ten times that on a busy one.
const bootLimit = 3 * time.Minute

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

// mixedSource defines a machine with an empty raw and an empty qcow2 disk that counts on
// them.
func (s *site) mixedSource(name string, more ...string) hypervisor.Ref {
	s.t.Helper()
	formats := map[string]string{"vda": "raw", "vdb": "qcow2"}
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
