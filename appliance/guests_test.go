package appliance_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// Real guests under QEMU, judged by what they print on their serial line and by
// what other programs read from their disks, never by Riparo's own state alone.

const (
	// guestLimit bounds every wait: a boot takes 3 s on a quiet machine without
	// virtualization, and ten times that on a busy one.
	guestLimit = 3 * time.Minute
	diskBytes  = 96 << 20
)

// needGuests skips a test where it cannot run; in CI a missing program is a failure.
func needGuests(t *testing.T) guest.Kit {
	t.Helper()
	if testing.Short() {
		t.Skip("boots real guests: left out of the short run")
	}
	missing := guest.Missing()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 && os.Getenv("CI") == "true" {
		t.Fatalf("missing on this machine: %v", missing)
	}
	if len(missing) > 0 {
		t.Skipf("missing on this machine: %v", missing)
	}
	kit, err := guest.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return kit
}

// theater is an appliance with two sites, one guest and a watch on its console.
type theater struct {
	*testing.T
	kit  guest.Kit
	a    *appliance.Appliance
	stop func() // ends it; what it keeps stays
	data string // its folder
	port int    // that the guest tries to reach
	id   replication.MachineID
	ref  hypervisor.Ref

	primary, secondary string // site names
	address            map[string]string

	mu     sync.Mutex // guards counts
	counts []count
}

// count is a number seen on the source's console, and when.
type count struct {
	at time.Time
	n  int
}

// start opens an appliance in the test's own process and lets it work until the end.
func (th *theater) start(data string) {
	th.Helper()
	th.startWith(appliance.Config{Data: data})
}

// startWith is start with more to say about the appliance.
func (th *theater) startWith(c appliance.Config) {
	th.Helper()
	c.Listen, c.RetryUnit = "127.0.0.1:0", cmp.Or(c.RetryUnit, 200*time.Millisecond)
	c.Log = slog.New(slog.NewTextHandler(testWriter{th.T}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	th.data = c.Data
	a, err := appliance.Open(th.Context(), c)
	if err != nil {
		th.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	th.stop = sync.OnceFunc(func() {
		stop()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			th.Errorf("the appliance ended with: %v", err)
		}
	})
	th.Cleanup(th.stop)
	th.a = a
}

func openAppliance(t *testing.T, data string, log *slog.Logger) (*appliance.Appliance, error) {
	return appliance.Open(t.Context(), appliance.Config{Data: data, Listen: "127.0.0.1:0", Log: log, RetryUnit: 200 * time.Millisecond})
}

// testWriter gives a log to a test, as long as it runs.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", bytes.TrimSpace(p))
	}
	return len(p), nil
}

// listen gives the guests something to reach, when their network lets them.
func (th *theater) listen() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		th.Fatal(err)
	}
	th.Cleanup(func() { l.Close() })
	th.port = l.Addr().(*net.TCPAddr).Port
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
}

// provider gives the site itself, for looking at machines without the appliance.
func (th *theater) provider(site string) hypervisor.Provider {
	th.Helper()
	p, err := th.a.Rooms().Sites.Provider(site)
	if err != nil {
		th.Fatal(err)
	}
	return p
}

func (th *theater) console(site string, ref hypervisor.Ref) []byte {
	th.Helper()
	said, err := th.provider(site).(hypervisor.ConsoleReader).Console(th.Context(), ref, 1<<20)
	if err != nil {
		th.Fatalf("console of %s: %v", ref, err)
	}
	return said
}

// await waits until a machine printed words, and gives its console.
func (th *theater) await(site string, ref hypervisor.Ref, words string) []byte {
	th.Helper()
	ctx, cancel := context.WithTimeout(th.Context(), guestLimit)
	defer cancel()
	said, err := guest.WaitLine(ctx, func() []byte { return th.console(site, ref) }, words)
	if err != nil {
		th.Fatalf("%s: %v", ref, err)
	}
	return said
}

// watch keeps what the source counts, and when, until the test ends.
func (th *theater) watch(ctx context.Context) {
	reader := th.provider(th.primary).(hypervisor.ConsoleReader)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			said, err := reader.Console(ctx, th.ref, 4<<10)
			if n, ok := guest.Counter(said); err == nil && ok {
				th.mu.Lock()
				if len(th.counts) == 0 || th.counts[len(th.counts)-1].n != n {
					th.counts = append(th.counts, count{time.Now(), n})
				}
				th.mu.Unlock()
			}
		}
	}()
}

// bracket gives the counts between which the instant lies. slack covers that a
// console is looked at a little later than it is written.
func (th *theater) bracket(at time.Time) (low, high int) {
	const slack = 2 * time.Second
	th.mu.Lock()
	defer th.mu.Unlock()
	high = 1 << 30
	for _, c := range th.counts {
		if c.at.Before(at) {
			low = c.n
		}
		if c.at.After(at.Add(slack)) {
			high = c.n
			break
		}
	}
	return low, high
}

// ask starts a verb, waits for its job and gives it.
func (th *theater) ask(r api.Request) store.Job {
	th.Helper()
	r.Actor, r.Machine, r.Confirm = "test", th.id, th.machine().Name
	job, err := th.a.Ask(th.Context(), r)
	if err != nil {
		th.Fatalf("%s: %v", r.Verb, err)
	}
	return th.job(job)
}

// job waits for a job's success.
func (th *theater) job(id string) store.Job {
	th.Helper()
	deadline := time.Now().Add(guestLimit)
	for {
		var job store.Job
		err := th.a.Rooms().Store.View(func(tx *store.Tx) (err error) {
			job, err = tx.Jobs().Get(id)
			return err
		})
		if err != nil {
			th.Fatal(err)
		}
		if job.State == store.Succeeded {
			return job
		}
		if job.State.Ended() || job.Attempt > 3 || time.Now().After(deadline) {
			th.Fatalf("job %s is %s: %+v; steps %+v", job.Kind, job.State, job.Error, job.Steps)
		}
		time.Sleep(20 * time.Millisecond) // a real process on the other side, no virtual time
	}
}

func (th *theater) machine() store.Machine {
	th.Helper()
	var m store.Machine
	err := th.a.Rooms().Store.View(func(tx *store.Tx) (err error) {
		m, err = tx.Machines().Get(string(th.id))
		return err
	})
	if err != nil {
		th.Fatal(err)
	}
	return m
}

// points waits until the machine has at least n, of which one is
// application-consistent, and gives them, oldest first.
func (th *theater) points(n int) []replication.RecoveryPoint {
	th.Helper()
	deadline := time.Now().Add(guestLimit)
	for {
		points, err := th.a.Points(th.Context(), th.id)
		if err != nil {
			th.Fatal(err)
		}
		app := slices.ContainsFunc(points, func(p replication.RecoveryPoint) bool { return p.Consistency == replication.AppConsistent })
		if len(points) >= n && app {
			slices.Reverse(points)
			return points
		}
		if time.Now().After(deadline) {
			th.Fatalf("got %d points, want %d with an application-consistent one: %+v; health %+v", len(points), n, points, th.machine().Health)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// evidence finds what a step of a job observed.
func evidence(job store.Job, name string) string {
	for _, step := range job.Steps {
		for _, fact := range step.Evidence {
			if fact.Name == name {
				return fact.Value
			}
		}
	}
	return ""
}

// verify boots a point in a machine of the test's own that checks the disks, and
// compares what it found with what the source printed around the instant.
func (th *theater) verify(p replication.RecoveryPoint) {
	th.Helper()
	m := th.machine()
	secondary := th.provider(th.secondary)
	hardware := map[string]string{"kernel": th.kit.Kernel, "initrd": th.kit.Initrd, "append": guest.Append(guest.Verify)}
	spec := hypervisor.Spec{Name: "verify-" + string(p.ID[len(p.ID)-8:]), Owner: "test/verify", CPUs: 1, MemoryMiB: 192, Isolated: true, Hardware: hardware}
	for _, d := range m.Disks {
		name := "verify." + string(d.ID) + "." + string(p.ID)
		uri, err := th.a.Rooms().Target.Publish(th.Context(), name, d.ID, p.ID)
		if err != nil {
			th.Fatal(err)
		}
		defer th.a.Rooms().Target.Withdraw(name)
		spec.Disks = append(spec.Disks, hypervisor.DiskSpec{Key: d.Key, Size: d.Size, Backing: uri, Boot: d.Boot})
	}
	made, err := secondary.Create(th.Context(), spec)
	if err != nil {
		th.Fatal(err)
	}
	if err := secondary.Start(th.Context(), made.Ref, hypervisor.StartOptions{}); err != nil {
		th.Fatal(err)
	}
	f := guest.ReadFindings(th.await(th.secondary, made.Ref, "DONE"))
	if _, err := secondary.Stop(th.Context(), made.Ref, 0); err != nil {
		th.Fatal(err)
	}
	if err := secondary.Remove(th.Context(), made.Ref); err != nil {
		th.Fatal(err)
	}
	low, high := th.bracket(p.Time)
	th.Logf("point %s (%s): counters %v in [%d,%d], %d files, %d bad, journal recovered %v", p.ID, p.Consistency, f.Counters, low, high, f.Files, f.Bad, f.Recovered)
	for _, key := range []string{"vda", "vdb"} {
		n, ok := f.Counters[key]
		// The count after the last one printed may be on the disk already.
		if !ok || n < low || n > high+1 {
			th.Errorf("point %s: counter of %s is %d (%v), want %d to %d", p.ID, key, n, ok, low, high+1)
		}
		if f.Fsck[key] != 0 {
			th.Errorf("point %s: fsck of %s: status %d, want 0", p.ID, key, f.Fsck[key])
		}
		if p.Consistency != replication.CrashConsistent && f.Recovered[key] {
			th.Errorf("point %s is labeled %s-consistent, and mounting %s recovered its journal", p.ID, p.Consistency, key)
		}
	}
	if f.Bad != 0 || f.Files == 0 {
		th.Errorf("point %s: %d of %d files have a wrong checksum", p.ID, f.Bad, f.Files)
	}
	if ahead := f.Counters["vdb"] - f.Counters["vda"]; ahead < 0 || ahead > 1 {
		th.Errorf("point %s: the disks are not of one instant: %v", p.ID, f.Counters)
	}
}

// started gives the number that a machine began to count from, and the last one
// that it printed when it was shut down (-1 when it did not say).
func started(said []byte) (first, last int) {
	first, last = -1, -1
	if words, ok := guest.Said(said, "START"); ok {
		first = number(words)
	}
	if words, ok := guest.Said(said, "BYE"); ok {
		last = number(words)
	}
	return first, last
}

func number(words string) int {
	fields := strings.Fields(words)
	n, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return -1
	}
	return n
}

func TestRealGuestsUnderQEMU(t *testing.T) {
	kit := needGuests(t)
	for _, format := range []string{"qcow2"} {
		t.Run(format, func(t *testing.T) {
			th := &theater{T: t, kit: kit, primary: "milano", secondary: "torino", address: map[string]string{}}
			th.listen()
			dir := t.TempDir()
			for _, site := range []string{th.primary, th.secondary} {
				th.address[site] = filepath.Join(dir, site)
				if err := os.Mkdir(th.address[site], 0o700); err != nil {
					t.Fatal(err)
				}
			}
			th.defineQMP(format)
			th.start(filepath.Join(dir, "data"))
			for _, site := range []string{th.primary, th.secondary} {
				if err := th.a.AddSite(t.Context(), "test", store.Site{Name: site, Kind: kvm.Kind, Address: th.address[site]}); err != nil {
					t.Fatal(err)
				}
			}
			th.Cleanup(th.endGuests)
			th.story()
		})
	}
}

// defineQMP makes the source: two empty disks and the counting guest.
func (th *theater) defineQMP(format string) {
	th.Helper()
	site, err := kvm.Open(th.Context(), th.address[th.primary], kvm.Options{Accelerator: "tcg"})
	if err != nil {
		th.Fatal(err)
	}
	defer site.Close()
	d := kvm.Definition{Name: "web01", MemoryMiB: 192, CPUs: 1, GuestAgent: true, Network: "user",
		Kernel: th.kit.Kernel, Initrd: th.kit.Initrd, Append: guest.Append(guest.Count, fmt.Sprintf("port=%d", th.port))}
	for _, key := range []string{"vda", "vdb"} {
		path := filepath.Join(th.address[th.primary], "web01-"+key+"."+format)
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", format, path, strconv.Itoa(diskBytes)).CombinedOutput(); err != nil {
			th.Fatalf("qemu-img: %v: %s", err, out)
		}
		d.Disks = append(d.Disks, kvm.DiskDefinition{Key: key, Path: path, Format: format, Boot: key == "vda"})
	}
	if err := site.Define(d); err != nil {
		th.Fatal(err)
	}
	th.ref = "web01"
}

// endGuests ends every machine of both sites.
func (th *theater) endGuests() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, site := range []string{th.primary, th.secondary} {
		p, err := th.a.Rooms().Sites.Provider(site)
		if err != nil {
			th.Error(err)
			continue
		}
		machines, err := p.Discover(ctx)
		if err != nil {
			th.Error(err)
		}
		for _, m := range machines {
			if th.Failed() {
				said, _ := p.(hypervisor.ConsoleReader).Console(ctx, m.Ref, 600)
				th.Logf("%s at %s is %s; its console ends in: %s", m.Name, site, m.Power, said)
			}
			if _, err := p.Stop(ctx, m.Ref, 0); err != nil {
				th.Errorf("end %s: %v", m.Name, err)
			}
		}
	}
}
