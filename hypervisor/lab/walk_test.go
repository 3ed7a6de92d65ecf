package lab_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/proof"
)

// seeds are the walks that a test takes: a few, or as many as RIPARO_LAB_SEEDS says.
func seeds(t testing.TB, usual int) []uint64 {
	t.Helper()
	var out []uint64
	for i := range proof.Times(t, "RIPARO_LAB_SEEDS", max(usual/slowdown, 1)) {
		out = append(out, uint64(i)+1)
	}
	return out
}

// walk is one machine whose captures are applied to plain files, whatever happens
// to it and to the process.
type walk struct {
	t      *testing.T
	random *rand.Rand
	dir    string
	world  *lab.World
	site   *lab.Site
	ref    hypervisor.Ref
	copies *copies
	held   map[string]replication.PointID // what the copies show, by disk
	points int
	added  int
	modes  map[hypervisor.CaptureMode]int
}

func TestEveryCaptureGivesBackItsInstant(t *testing.T) {
	all := seeds(t, 4)
	t.Cleanup(func() { t.Logf("%d walks of 60 steps", len(all)) })
	for _, seed := range all {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			w := &walk{
				t: t, random: rand.New(rand.NewPCG(seed, 7)), dir: t.TempDir(),
				copies: newCopies(t), held: map[string]replication.PointID{}, modes: map[hypervisor.CaptureMode]int{},
			}
			w.open()
			m, err := w.site.AddMachine(small(seed))
			if err != nil {
				t.Fatal(err)
			}
			w.ref = m.Ref
			for range 60 {
				w.step()
			}
			if w.modes[hypervisor.Delta] < 5 || w.modes[hypervisor.Full] == 0 {
				t.Errorf("the walk saw captures %v: want full ones and at least 5 deltas", w.modes)
			}
			if err := w.world.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func (w *walk) open() {
	w.t.Helper()
	var err error
	if w.world, err = lab.OpenWorld(w.dir, lab.Options{}); err != nil {
		w.t.Fatal(err)
	}
	w.site = site(w.t, w.world, "primary")
}

// step does one thing that may happen.
func (w *walk) step() {
	w.t.Helper()
	t := w.t
	m := w.machine()
	switch n := w.random.IntN(100); {
	case m.Power == hypervisor.Stopped && n < 60:
		w.must(w.site.Start(t.Context(), w.ref, hypervisor.StartOptions{}))
	case n < 60:
		w.capture()
	case n < 72:
		w.crash(nil)
	case n < 76:
		_, err := w.site.Stop(t.Context(), w.ref, 0)
		w.must(err)
	case n < 80:
		_, err := w.site.Stop(t.Context(), w.ref, 1)
		w.must(err)
	case n < 84:
		w.must(w.site.LoseTracking(w.ref))
	case n < 88 && m.Power == hypervisor.Running && w.added < 3:
		w.added++
		w.must(w.site.AddDisk(t.Context(), w.ref, lab.DiskSpec{Key: fmt.Sprintf("vd%c", 'b'+w.added), Size: mib, InitialBytes: mib / 4}))
	case n < 93 && m.Power == hypervisor.Running:
		d := m.Disks[w.random.IntN(len(m.Disks))]
		w.must(w.site.GrowDisk(t.Context(), w.ref, d.Key, d.Size+int64(1+w.random.IntN(100))*lab.BlockSize))
	}
	w.write(w.random.IntN(200))
}

func (w *walk) machine() hypervisor.Machine {
	w.t.Helper()
	m, err := w.site.Machine(w.t.Context(), w.ref)
	w.must(err)
	return m
}

// write lets the workload do n things, if it runs.
func (w *walk) write(n int) {
	w.t.Helper()
	if w.machine().Power == hypervisor.Running {
		step(w.t, w.site, w.ref, n)
	}
}

// crash ends the process without clean-up, perhaps in the middle of a capture, and
// opens the world again.
func (w *walk) crash(open hypervisor.Capture) {
	w.t.Helper()
	before := w.machine()
	w.must(w.world.Abandon())
	w.open()
	after := w.machine()
	if after.Power != before.Power || after.BootID != before.BootID {
		w.t.Errorf("after the crash the machine is %s with boot id %q: it was %s with %q", after.Power, after.BootID, before.Power, before.BootID)
	}
	_ = open // it belongs to a process that is gone
}

// capture takes a capture, applies it and judges the copies; in some the process
// ends before or after it was applied, or the capture is rolled back.
func (w *walk) capture() {
	t := w.t
	t.Helper()
	w.points++
	request := hypervisor.PointRequest{
		Ref: w.ref, Point: replication.PointID(fmt.Sprintf("p%04d", w.points)), Since: map[string]replication.PointID{},
		Want: replication.CrashConsistent,
	}
	for _, d := range w.machine().Disks {
		request.Disks = append(request.Disks, d.Key)
		if held, ok := w.held[d.Key]; ok {
			request.Since[d.Key] = held
		}
	}
	if w.random.IntN(3) == 0 {
		request.Want = replication.AppConsistent
	}
	c := begin(t, w.site, request)
	w.write(w.random.IntN(300))
	fate := w.random.IntN(10)
	if fate == 0 {
		w.crash(c) // before anything was read
		return
	}
	w.copies.apply(t, c)
	for _, d := range c.Disks() {
		w.modes[d.Mode()]++
		w.held[d.Key()] = request.Point
	}
	v := judge(t, w.world, "WEB01", w.copies.sources(t))
	if !v.OK {
		t.Fatalf("point %s is not an instant of the machine: %s", request.Point, v.Why)
	}
	instant := c.Instant()
	if (instant.Consistency == replication.AppConsistent || instant.Consistency == replication.Clean) && v.Sequence > 0 && !v.Clean {
		t.Errorf("point %s is %s, but the disks were not left clean at sequence %d", request.Point, instant.Consistency, v.Sequence)
	}
	if v.Time.After(instant.NotAfter) || !v.Until.IsZero() && v.Until.Before(instant.NotBefore) {
		t.Errorf("point %s shows the time from %s to %s: it says between %s and %s", request.Point, v.Time, v.Until, instant.NotBefore, instant.NotAfter)
	}
	switch {
	case fate == 1:
		w.crash(c) // the vault has it, the site was never told
	case fate == 2:
		w.must(c.Rollback(t.Context()))
		// The next capture must still contain everything since the one before: the
		// copies are ahead of what the site is told, which a superset does not mind.
		for _, d := range c.Disks() {
			if since, ok := request.Since[d.Key()]; ok {
				w.held[d.Key()] = since
			} else {
				delete(w.held, d.Key())
			}
		}
	default:
		w.must(c.Commit(t.Context()))
		w.must(c.Commit(t.Context()))
	}
}

func (w *walk) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}
