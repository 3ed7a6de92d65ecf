package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
)

// TestAnOverlayIsADiskLikeAnyOther writes to a disk at random places and in random
// lengths, and compares it with a model: as an overlay, after the process ended,
// flattened, and through captures.
func TestAnOverlayIsADiskLikeAnyOther(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		for _, size := range []int64{4096, 5000, 64<<10 + 1, 300<<10 + 777, mib} {
			t.Run(fmt.Sprintf("seed=%d,size=%d", seed, size), func(t *testing.T) { overlayWalk(t, seed, size) })
		}
	}
}

type overlayModel struct {
	t      *testing.T
	random *rand.Rand
	bytes  []byte
	disk   hypervisor.OpenedDisk
}

func overlayWalk(t *testing.T, seed uint64, size int64) {
	random := rand.New(rand.NewPCG(seed, uint64(size)))
	base := &memory{bytes: make([]byte, size)}
	if size > 128<<10 {
		base.holes = []replication.Extent{{Offset: 64 << 10, Length: 64 << 10}}
	}
	for i := range base.bytes {
		if len(base.holes) == 0 || !base.holes[0].Overlaps(replication.Extent{Offset: int64(i), Length: 1}) {
			base.bytes[i] = byte(random.Uint32())
		}
	}
	original := bytes.Clone(base.bytes)
	view := serve(t, map[string]replication.Source{"vda": base})
	dir := t.TempDir()
	w, s := world(t, dir)
	m, err := s.Create(t.Context(), hypervisor.Spec{Name: "WEB01", Owner: "m-1/failover", Disks: []hypervisor.DiskSpec{
		{Key: "vda", Size: size, Backing: fmt.Sprintf("nbd+unix:///vda?socket=%s", view.socket)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	model := &overlayModel{t: t, random: random, bytes: bytes.Clone(base.bytes)}
	copies := newCopies(t)
	var held replication.PointID
	for round := range 6 {
		switch round {
		case 2, 4:
			w, s = crashed(t, dir, w)
		case 3:
			if err := s.Flatten(t.Context(), m.Ref, nil); err != nil {
				t.Fatal(err)
			}
			view.stop()
		}
		if model.disk, err = s.OpenDisk(t.Context(), m.Ref, "vda", hypervisor.ReadWrite); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			model.step()
		}
		model.check(model.disk)
		if err := errors.Join(model.disk.Sync(), model.disk.Close()); err != nil {
			t.Fatal(err)
		}
		held = model.capture(s, m.Ref, copies, held, replication.PointID(fmt.Sprintf("p%d", round)))
	}
	if !bytes.Equal(base.bytes, original) {
		t.Error("the recovery point under the overlay changed")
	}
}

// extent is a random part of the disk.
func (o *overlayModel) extent() replication.Extent {
	size := int64(len(o.bytes))
	at := o.random.Int64N(size)
	length := 1 + o.random.Int64N(min(size-at, 1<<o.random.IntN(18)))
	return replication.Extent{Offset: at, Length: length}
}

func (o *overlayModel) step() {
	o.t.Helper()
	e := o.extent()
	switch o.random.IntN(4) {
	case 0:
		if err := o.disk.Zero(e); err != nil {
			o.t.Fatal(err)
		}
		clear(o.bytes[e.Offset:e.End()])
	case 1, 2:
		p := make([]byte, e.Length)
		for i := range p {
			p[i] = byte(o.random.Uint32())
		}
		if _, err := o.disk.WriteAt(p, e.Offset); err != nil {
			o.t.Fatal(err)
		}
		copy(o.bytes[e.Offset:], p)
	default:
		p := make([]byte, e.Length)
		if _, err := o.disk.ReadAt(p, e.Offset); err != nil {
			o.t.Fatal(err)
		}
		if !bytes.Equal(p, o.bytes[e.Offset:e.End()]) {
			o.t.Fatalf("%s reads something that was never written there", e)
		}
	}
}

// check compares all bytes, and holds zero regions to their word.
func (o *overlayModel) check(s replication.Source) {
	o.t.Helper()
	got := make([]byte, s.Size())
	if _, err := io.ReadFull(io.NewSectionReader(s, 0, s.Size()), got); err != nil {
		o.t.Fatal(err)
	}
	if !bytes.Equal(got, o.bytes) {
		o.t.Fatal("the disk differs from its model")
	}
	for region, err := range s.Regions(o.t.Context()) {
		if err != nil {
			o.t.Fatal(err)
		}
		if region.Zero && !bytes.Equal(o.bytes[region.Offset:region.End()], make([]byte, region.Length)) {
			o.t.Fatalf("region %s is said to be zero and is not", region.Extent)
		}
	}
}

// capture brings copies to what the disk shows, as a delta if something is held.
func (o *overlayModel) capture(s *lab.Site, ref hypervisor.Ref, c *copies, held, point replication.PointID) replication.PointID {
	o.t.Helper()
	request := hypervisor.PointRequest{Ref: ref, Point: point, Disks: []string{"vda"}}
	if held != "" {
		request.Since = map[string]replication.PointID{"vda": held}
	}
	capture := begin(o.t, s, request)
	if d := capture.Disks()[0]; held != "" && d.Mode() != hypervisor.Delta {
		o.t.Errorf("the capture since %s is %s: %s", held, d.Mode(), d.Reason())
	}
	c.apply(o.t, capture)
	o.check(c.sources(o.t)["vda"])
	if err := capture.Commit(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
	return point
}

func TestAnOverlayOfTheWrongSizeIsRefused(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	view := serve(t, map[string]replication.Source{"vda": &memory{bytes: make([]byte, mib)}})
	_, err := s.Create(t.Context(), hypervisor.Spec{Name: "WEB01", Owner: "m-1/test", Disks: []hypervisor.DiskSpec{
		{Key: "vda", Size: 2 * mib, Backing: fmt.Sprintf("nbd+unix:///vda?socket=%s", view.socket)},
	}})
	if p := replication.AsProblem(err); p == nil || p.Code != "lab.backing-size" || p.Remedy != replication.Stop {
		t.Errorf("laying 2 MiB over 1 MiB: %v", err)
	}
	if machines, err := s.Discover(t.Context()); err != nil || len(machines) != 0 {
		t.Errorf("a machine that could not be made is there: %+v, %v", machines, err)
	}
}
