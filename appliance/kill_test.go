//go:build unix

package appliance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
	"riparo/replication"
	"riparo/replication/keyring"
	"riparo/replication/lifecycle"
	"riparo/replication/proof"
	"riparo/replication/vault"
	"riparo/replication/vfs"
	"riparo/store"
	"riparo/web/api"
)

// kills is how often the daemon is killed through the story; RIPARO_KILLS changes it,
// and RIPARO_TIME says when no other round begins.
const kills = 50

// TestMain lets the test binary be the daemon as well, a process that can be killed; and
// a crowd of browsers.
func TestMain(m *testing.M) {
	if data := os.Getenv("RIPARO_TEST_COMPARING"); data != "" {
		fmt.Fprintln(os.Stderr, killedComparing(data, os.Getenv("RIPARO_TEST_MACHINE"), os.Getenv("RIPARO_TEST_REF")))
		os.Exit(1)
	}
	if data := os.Getenv("RIPARO_TEST_LIFE"); data != "" {
		if err := liveUntil(data, os.Getenv("RIPARO_TEST_CHANGES")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if text := os.Getenv("RIPARO_TEST_BROWSERS"); text != "" {
		if err := browse(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if data := os.Getenv("RIPARO_TEST_DAEMON"); data != "" {
		if err := daemon(data, os.Getenv("RIPARO_TEST_LISTEN"), os.Getenv("RIPARO_TEST_ADDRESS")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// daemon runs until it is interrupted, and writes where it listens into the file tell. Who
// takes the port while it is away has to give it back: others connect from such ports for
// moments.
func daemon(data, listen, tell string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	config := appliance.Config{Data: data, Listen: listen, Log: log, RetryUnit: 100 * time.Millisecond}
	a, err := appliance.Open(ctx, config)
	for deadline := time.Now().Add(time.Minute); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		a, err = appliance.Open(ctx, config)
	}
	if err != nil {
		return err
	}
	// All of it, or nothing.
	err = os.WriteFile(tell+".new", []byte(a.Address()), 0o600)
	if err = errors.Join(err, os.Rename(tell+".new", tell)); err != nil {
		return errors.Join(err, a.Close())
	}
	return errors.Join(a.Run(ctx), a.Close())
}

// victim is a daemon in a process of its own that somebody keeps killing.
type victim struct {
	t      *testing.T
	data   string
	listen string // a port of the daemon's choice, until it has told which

	mu    sync.Mutex // guards what follows
	child *exec.Cmd
	done  chan struct{}
	kills int
	log   *os.File
}

func (v *victim) start() {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "RIPARO_TEST_DAEMON="+v.data, "RIPARO_TEST_LISTEN="+v.listen, "RIPARO_TEST_ADDRESS="+v.address())
	child.Stdout, child.Stderr = v.log, v.log
	if err := child.Start(); err != nil {
		v.t.Error(err)
		return
	}
	done := make(chan struct{})
	go func() { child.Wait(); close(done) }()
	v.mu.Lock()
	v.child, v.done = child, done
	v.mu.Unlock()
}

// address is the file in which the daemon says where it listens.
func (v *victim) address() string { return v.data + ".address" }

// settle waits until the daemon listens for the first time. It does so at the same place
// from then on.
func (v *victim) settle() {
	v.t.Helper()
	for deadline := time.Now().Add(guestLimit); ; time.Sleep(20 * time.Millisecond) {
		if listen, err := os.ReadFile(v.address()); err == nil {
			v.listen = string(listen)
			return
		}
		if time.Now().After(deadline) {
			v.t.Fatal("the daemon does not say where it listens")
		}
	}
}

// serves is whether the daemon that was started last listens, or has ended by itself.
func (v *victim) serves() bool {
	v.mu.Lock()
	done := v.done
	v.mu.Unlock()
	select {
	case <-done:
		return true
	default:
	}
	_, err := os.Stat(v.address())
	return err == nil
}

// end kills the daemon, or asks it to end, and waits until it is gone.
func (v *victim) end(s os.Signal) {
	v.mu.Lock()
	child, done := v.child, v.done
	v.mu.Unlock()
	child.Process.Signal(s)
	<-done
}

// torment kills and restarts the daemon at random moments until ctx ends. A life is
// measured from the moment in which it serves: on a slow machine a start takes as long as
// such a life, and guests that read from it would never find it. Some do not come as far.
func (v *victim) torment(ctx context.Context, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 9))
	for {
		// Mostly soon after the start, where it takes up what it finds; sometimes late.
		life := time.Duration(random.Int64N(int64(2500 * time.Millisecond)))
		short := random.IntN(3) == 0
		if short {
			life /= 8
		}
		for !short && !v.serves() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(life):
		}
		v.end(syscall.SIGKILL)
		os.Remove(v.address()) // the next one tells anew
		v.start()
		v.mu.Lock()
		v.kills++
		v.mu.Unlock()
	}
}

func (v *victim) killed() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.kills
}

func TestKilledAtAnyMomentTheStoryGoesOn(t *testing.T) {
	kit := needGuests(t)
	want, until := proof.Times(t, "RIPARO_KILLS", kills), proof.Until(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	th := &theater{T: t, kit: kit, primary: "milano", secondary: "torino", address: map[string]string{}}
	th.listen()
	var sites []*kvm.Site
	for _, site := range []string{th.primary, th.secondary} {
		th.address[site] = filepath.Join(dir, site)
		if err := os.Mkdir(th.address[site], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	th.defineQMP("qcow2")
	for _, site := range []string{th.primary, th.secondary} {
		s, err := kvm.Open(t.Context(), th.address[site], kvm.Options{Accelerator: "tcg"})
		if err != nil {
			t.Fatal(err)
		}
		sites = append(sites, s)
	}
	log, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, data: filepath.Join(dir, "data"), listen: "127.0.0.1:0", log: log}
	v.start()
	t.Cleanup(func() {
		v.end(syscall.SIGKILL)
		for _, s := range sites {
			endMachines(t, s)
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the daemon's log ends in: %s", text[max(0, len(text)-6000):])
		}
	})
	h := &hand{T: t, v: v, primary: sites[0], secondary: sites[1], ref: th.ref, last: -1}
	v.settle()
	h.claim()
	h.prepare(th)
	ctx, stop := context.WithCancel(t.Context())
	var tormented sync.WaitGroup
	tormented.Go(func() { v.torment(ctx, seed) })
	defer tormented.Wait()
	defer stop()
	for round := 0; v.killed() < want && time.Now().Before(until); round++ {
		h.round(round)
		t.Logf("round %d done, killed %d times so far", round, v.killed())
	}
	stop()
	tormented.Wait()
	h.seePoints()
	v.end(os.Interrupt)
	h.vaultIsWhole()
	t.Logf("all points equal after %d kills", v.killed())
	v.start()
}

func endMachines(t *testing.T, s *kvm.Site) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	machines, err := s.Discover(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, m := range machines {
		if _, err := s.Stop(ctx, m.Ref, 0); err != nil {
			t.Errorf("end %s: %v", m.Name, err)
		}
	}
	s.Close()
}

// hand does what an operator does, through the API, with a daemon that may be away.
type hand struct {
	*testing.T
	v                  *victim
	primary, secondary *kvm.Site
	ref                hypervisor.Ref
	id                 replication.MachineID
	client             *api.Client
	seen               []replication.PointID
	last               int // the highest count that the replica printed
}

// claim makes the administrator and an API token. The daemon is not tormented yet.
func (h *hand) claim() {
	deadline := time.Now().Add(guestLimit)
	for {
		token, err := os.ReadFile(filepath.Join(h.v.data, "setup-token"))
		cert, certErr := os.ReadFile(filepath.Join(h.v.data, "pki", "console.pem"))
		if err == nil && certErr == nil {
			address := "https://" + h.v.listen
			client, err := api.New(address, "", string(cert))
			if err != nil {
				h.Fatal(err)
			}
			claimed, err := client.Setup(h.Context(), api.SetupBody{SetupToken: string(token), Name: "admin", Password: "correct horse battery", TokenName: "test"})
			if err == nil {
				if h.client, err = api.New(address, claimed.Token.Secret, string(cert)); err != nil {
					h.Fatal(err)
				}
				return
			}
		}
		if time.Now().After(deadline) {
			h.Fatalf("the daemon was not claimed: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// persist repeats a call until the daemon was there to answer it. A refusal that
// says the thing is done already is success.
func (h *hand) persist(what string, call func() error) {
	h.Helper()
	deadline := time.Now().Add(guestLimit)
	for {
		err := call()
		if err == nil || time.Now().After(deadline) {
			if err != nil {
				h.Fatalf("%s: %v", what, err)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (h *hand) prepare(th *theater) {
	h.Helper()
	for _, name := range []string{th.primary, th.secondary} {
		h.persist("add site "+name, func() error {
			return h.client.AddSite(h.Context(), api.SiteBody{Name: name, Kind: kvm.Kind, Address: th.address[name]})
		})
	}
	policy := replication.DefaultPolicy()
	policy.Name, policy.CopyFrequency, policy.AppConsistentFrequency = "often", replication.MinCopyFrequency, 0
	h.persist("save policy", func() error { return h.client.SavePolicy(h.Context(), policy) })
	if err := h.primary.Start(h.Context(), h.ref, hypervisor.StartOptions{}); err != nil {
		h.Fatal(err)
	}
	h.persist("protect", func() error {
		started, err := h.client.Protect(h.Context(), api.ProtectBody{Site: th.primary, Ref: string(h.ref), Target: th.secondary, Policy: policy.Name, Network: "user", BootSign: "SERVING"})
		h.id = started.Machine
		return err
	})
}

// machine reads the machine and its unfinished job; a job that failed ends the test.
func (h *hand) machine() (m api.Machine, busy bool) {
	h.Helper()
	h.persist("look at the machine", func() (err error) {
		if m, err = h.client.Machine(h.Context(), h.id); err != nil {
			return err
		}
		jobs, err := h.client.Jobs(h.Context(), api.JobFilter{Machine: h.id, Limit: 1})
		if err != nil {
			return err
		}
		busy = len(jobs) > 0 && !jobs[0].State.Ended()
		if len(jobs) > 0 && jobs[0].State == store.Failed {
			h.Fatalf("job %s failed after %d kills: %+v; steps %+v", jobs[0].Kind, h.v.killed(), jobs[0].Error, jobs[0].Steps)
		}
		return nil
	})
	return m, busy
}

// reach asks for a verb until the machine is where the verb leads.
func (h *hand) reach(verb lifecycle.Verb, there func(api.Machine) bool) {
	h.Helper()
	deadline := time.Now().Add(2 * guestLimit)
	for {
		m, busy := h.machine()
		h.look()
		if !busy && there(m) {
			return
		}
		if !busy && slices.Contains(m.Allowed, verb) {
			h.client.Ask(h.Context(), h.id, verb, api.VerbBody{Confirm: m.Name}) // an error is seen as no progress
		}
		if time.Now().After(deadline) {
			h.Fatalf("%s: after %d kills the machine is %s, drill %q, busy %v: %+v", verb, h.v.killed(), m.State, m.Drill, busy, m.Health)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// look keeps the highest count that the replica printed. What it printed it had
// synced, so no way back may lose it.
func (h *hand) look() {
	replica := h.ref + "-replica"
	if m, err := h.secondary.Machine(h.Context(), replica); err != nil || m.Power != hypervisor.Running {
		return
	}
	if said, err := h.secondary.Console(h.Context(), replica, 4<<10); err == nil {
		if n, ok := guest.Counter(said); ok {
			h.last = max(h.last, n)
		}
	}
}

// seePoints checks that every point that was ever listed is listed still, and keeps
// the new ones.
func (h *hand) seePoints() {
	h.Helper()
	var points []replication.RecoveryPoint
	h.persist("list points", func() (err error) { points, err = h.client.Points(h.Context(), h.id); return err })
	listed := map[replication.PointID]bool{}
	for _, p := range points {
		listed[p.ID] = true
	}
	for _, id := range h.seen {
		if !listed[id] {
			h.Errorf("point %s was listed before and is lost after %d kills", id, h.v.killed())
		}
	}
	h.seen = h.seen[:0]
	for id := range listed {
		h.seen = append(h.seen, id)
	}
}

// round is one life: protected, tested, moved without loss, and back.
func (h *hand) round(n int) {
	h.Helper()
	protected := func(m api.Machine) bool { return m.State == lifecycle.Protected && m.Drill == lifecycle.NoDrill }
	h.reach("", protected)
	h.seePoints()
	if n == 0 {
		h.reach(lifecycle.TestFailover, func(m api.Machine) bool { return m.Drill == lifecycle.DrillRunning })
		h.reach(lifecycle.CleanupTest, protected)
	}
	h.reach(lifecycle.PlannedFailover, func(m api.Machine) bool { return m.State == lifecycle.CommitPending })
	said, err := h.primary.Console(h.Context(), h.ref, 1<<20)
	if err != nil {
		h.Fatal(err)
	}
	_, bye := started(said)
	m, _ := h.machine()
	replica, err := h.secondary.Console(h.Context(), hypervisor.Ref(m.Target.Ref), 1<<20)
	if err != nil {
		h.Fatal(err)
	}
	if first, _ := started(replica); first != bye || bye < 0 {
		h.Errorf("round %d: the replica began to count at %d, want %d, the last number of the source", n, first, bye)
	}
	h.seePoints()
	h.reach(lifecycle.Commit, func(m api.Machine) bool { return m.State == lifecycle.Committed })
	h.reach(lifecycle.ReverseReplicate, func(m api.Machine) bool { return m.State == lifecycle.ProtectedReverse })
	h.reach(lifecycle.Failback, protected)
	said, err = h.primary.Console(h.Context(), h.ref, 1<<20)
	if err != nil {
		h.Fatal(err)
	}
	if first, _ := started(said); first < h.last {
		h.Errorf("round %d: the original began to count at %d, and its replica had come to %d", n, first, h.last)
	}
	h.seePoints()
}

// vaultIsWhole reads the vault from end to end, with no daemon beside it.
func (h *hand) vaultIsWhole() {
	h.Helper()
	keys, err := keyring.Load(filepath.Join(h.v.data, appliance.MasterKey))
	if err != nil {
		h.Fatal(err)
	}
	v, err := vault.Open(h.Context(), vfs.OS(), filepath.Join(h.v.data, "vault"), vault.Options{Keys: keys})
	if err != nil {
		h.Fatal(err)
	}
	defer v.Close()
	report, err := v.Verify(h.Context(), vault.VerifyOptions{})
	if err != nil || len(report.Damage) > 0 {
		h.Errorf("the vault after %d kills: %v, damage %+v", h.v.killed(), err, report.Damage)
	}
	h.Logf("%d kills, %d points, the vault is whole", h.v.killed(), len(h.seen))
}
