package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
)

const mib = 1 << 20

// web01 is a machine of two disks with some content.
func web01(seed uint64) lab.Spec {
	return lab.Spec{
		Name: "WEB01", Seed: seed, Churn: 4 * mib,
		Disks: []lab.DiskSpec{
			{Key: "vda", Size: 12 * mib, InitialBytes: 4 * mib},
			{Key: "vdb", Size: 8 * mib, InitialBytes: 2 * mib},
		},
	}
}

func openWorld(t testing.TB, dir string) *lab.World {
	t.Helper()
	w, err := lab.OpenWorld(dir, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func site(t testing.TB, w *lab.World, name string) *lab.Site {
	t.Helper()
	s, err := w.Site(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// small is web01 with disks that are judged in a moment, even by a race detector.
func small(seed uint64) lab.Spec {
	spec := web01(seed)
	spec.Disks[0].Size, spec.Disks[0].InitialBytes = 2*mib, mib
	spec.Disks[1].Size, spec.Disks[1].InitialBytes = mib, mib/2
	return spec
}

// startWeb01 adds a machine to a site and powers it on.
func startWeb01(t testing.TB, s *lab.Site, spec lab.Spec) hypervisor.Ref {
	t.Helper()
	m, err := s.AddMachine(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), m.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return m.Ref
}

func step(t testing.TB, s *lab.Site, ref hypervisor.Ref, n int) {
	t.Helper()
	if did, err := s.Step(t.Context(), ref, n); err != nil || did != n {
		t.Fatalf("the workload did %d of %d things: %v", did, n, err)
	}
}

func begin(t testing.TB, s *lab.Site, request hypervisor.PointRequest) hypervisor.Capture {
	t.Helper()
	c, err := s.BeginPoint(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func judge(t testing.TB, w *lab.World, machine string, disks map[string]replication.Source) lab.Verdict {
	t.Helper()
	r, err := w.Record(machine)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Judge(t.Context(), disks)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sources are the disks of a capture as they are.
func sources(c hypervisor.Capture) map[string]replication.Source {
	out := map[string]replication.Source{}
	for _, d := range c.Disks() {
		out[d.Key()] = d
	}
	return out
}

// copies are plain files that captures are applied to.
type copies struct {
	dir   string
	files map[string]*os.File
}

func newCopies(t testing.TB) *copies {
	c := &copies{dir: t.TempDir(), files: map[string]*os.File{}}
	t.Cleanup(func() {
		for _, f := range c.files {
			f.Close()
		}
	})
	return c
}

// apply brings the copies to the instant of a capture and tells how many bytes it
// took.
func (c *copies) apply(t testing.TB, capture hypervisor.Capture) (read int64) {
	t.Helper()
	for _, d := range capture.Disks() {
		f := c.files[d.Key()]
		if f == nil {
			var err error
			if f, err = os.Create(filepath.Join(c.dir, d.Key())); err != nil {
				t.Fatal(err)
			}
			c.files[d.Key()] = f
		}
		if d.Mode() != hypervisor.Delta {
			if err := f.Truncate(0); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate(d.Size()); err != nil {
			t.Fatal(err)
		}
		for region, err := range d.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, region.Length)
			if !region.Zero {
				if _, err := d.ReadAt(p, region.Offset); err != nil {
					t.Fatal(err)
				}
				read += region.Length
			}
			if _, err := f.WriteAt(p, region.Offset); err != nil {
				t.Fatal(err)
			}
		}
	}
	return read
}

func (c *copies) sources(t testing.TB) map[string]replication.Source {
	t.Helper()
	out := map[string]replication.Source{}
	for key, f := range c.files {
		out[key] = file{f}
	}
	return out
}

func TestAnInstantLastsUntilTheNextWrite(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(2))
	r, err := w.Record("WEB01")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		before := mustBeInstant(t, w, s, ref)
		step(t, s, ref, 1)
		if r.LastWas() != "write" {
			continue
		}
		after := mustBeInstant(t, w, s, ref)
		if !before.Until.IsZero() {
			t.Errorf("the newest instant lasted until %s", before.Until)
		}
		c := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p", Disks: []string{"vda", "vdb"}})
		step(t, s, ref, 20)
		if v := judge(t, w, "WEB01", sources(c)); v.Sequence != after.Sequence || !v.Time.Equal(after.Time) || !v.Until.After(v.Time) {
			t.Errorf("sequence %d of %s is judged as %d of %s, until %s", after.Sequence, after.Time, v.Sequence, v.Time, v.Until)
		}
	}
}

func TestACaptureIsOneInstant(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, web01(1))
	step(t, s, ref, 500)
	c := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p1", Disks: []string{"vda", "vdb"}})
	step(t, s, ref, 500)
	v := judge(t, w, "WEB01", sources(c))
	if !v.OK || v.Sequence != 502 {
		t.Errorf("the capture shows sequence %d (%s): want 502", v.Sequence, v.Why)
	}
	if err := c.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
}
