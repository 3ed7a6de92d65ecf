package providertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/nbd"
)

// view serves copies over NBD, as the appliance serves a recovery point.
type view struct {
	socket string
	stop   func()
}

func serve(t *testing.T, c *copies) *view {
	t.Helper()
	// The address of a socket is short on every system; a test's folder may not be.
	dir, err := os.MkdirTemp("", "riparo")
	if err != nil {
		t.Fatal(err)
	}
	v := &view{socket: filepath.Join(dir, "view")}
	server := nbd.NewServer(nbd.ServerOptions{})
	for key, source := range c.sources() {
		if err := server.Add(key, nbd.Export{Source: source}); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", v.socket)
	if err != nil {
		t.Fatal(err)
	}
	// QEMU may run as another user than the test.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(v.socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	v.stop = func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the NBD server: %v", err)
		}
		v.stop = func() {}
	}
	t.Cleanup(func() {
		v.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return v
}

func (v *view) uri(key string) string {
	return fmt.Sprintf("nbd+unix:///%s?socket=%s", key, v.socket)
}

// overlays boots a copy of the source from a recovery point, follows what it
// writes, and makes it independent.
func (s *suite) overlays(t *testing.T) {
	offered[hypervisor.OverlayBooter](t, s.p, "OverlayBooter")
	reader := offered[hypervisor.ChangeReader](t, s.p, "ChangeReader") // to have something to boot
	s.running(t)
	s.machine.Write(t, s.ref)
	base := newCopies(t)
	point := s.point()
	capture, err := reader.BeginPoint(s.context(t), hypervisor.PointRequest{Ref: s.ref, Point: point, Disks: s.keys})
	if err != nil {
		t.Fatal(err)
	}
	s.take(t, base, capture, point)
	s.commit(t, capture)
	sums := map[string]uint64{}
	for key, source := range base.sources() {
		sums[key] = sum(t, source)
	}
	shown := base.clone(t)
	v := serve(t, shown)

	replica := s.create(t, s.replica(t, shown, v))
	if err := s.p.Start(s.context(t), replica.Ref, hypervisor.StartOptions{TrackSince: point}); err != nil {
		t.Fatal(err)
	}
	s.up(t, replica.Ref)
	t.Run("what the machine writes stays in the overlay", func(t *testing.T) {
		s.machine.Write(t, replica.Ref)
		for key, source := range shown.sources() {
			if got := sum(t, source); got != sums[key] {
				t.Errorf("disk %s of the recovery point changed under the overlay", key)
			}
		}
	})
	held := shown.clone(t)
	t.Run("everything since the point is a delta", func(t *testing.T) {
		s.replicaCycle(t, replica.Ref, held)
		s.machine.Write(t, replica.Ref)
		s.replicaCycle(t, replica.Ref, held)
	})
	t.Run("flattened it needs no backing", func(t *testing.T) {
		s.flatten(t, replica.Ref)
		v.stop()
		s.machine.Write(t, replica.Ref)
		s.replicaCycle(t, replica.Ref, held)
		if err := s.p.(hypervisor.OverlayBooter).Flatten(s.context(t), replica.Ref, nil); err != nil {
			t.Errorf("flattening what has no backing: %v", err)
		}
	})
	t.Run("it starts again by itself", func(t *testing.T) {
		if _, err := s.p.Stop(s.context(t), replica.Ref, s.h.grace()); err != nil {
			t.Fatal(err)
		}
		if err := s.p.Start(s.context(t), replica.Ref, hypervisor.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		s.up(t, replica.Ref)
		s.machine.Write(t, replica.Ref)
	})
	t.Run("a running machine that Riparo made is removed", func(t *testing.T) {
		s.remove(t, replica.Ref)
		if _, err := s.p.Machine(s.context(t), replica.Ref); !errors.Is(err, hypervisor.ErrNoMachine) {
			t.Errorf("the removed machine is reported with %v: want ErrNoMachine", err)
		}
	})
}

// replica is a machine like the source on what a view shows.
func (s *suite) replica(t *testing.T, shown *copies, v *view) hypervisor.Spec {
	t.Helper()
	source := s.report(t)
	spec := hypervisor.Spec{
		Name: "riparo-suite-replica", Owner: "m-suite/overlay", CPUs: source.CPUs, MemoryMiB: source.MemoryMiB,
		Isolated: true, NICs: source.NICs, Hardware: source.Hardware,
	}
	for _, d := range source.Disks {
		f, ok := shown.files[d.Key]
		if !ok {
			t.Fatalf("disk %s of the source was not captured", d.Key)
		}
		spec.Disks = append(spec.Disks, hypervisor.DiskSpec{Key: d.Key, Size: file{f}.Size(), Boot: d.Boot, Backing: v.uri(d.Key)})
	}
	return spec
}

// replicaCycle brings copies to what the replica shows now.
func (s *suite) replicaCycle(t *testing.T, ref hypervisor.Ref, held *copies) {
	t.Helper()
	point := s.point()
	capture, err := s.p.(hypervisor.ChangeReader).BeginPoint(s.context(t), hypervisor.PointRequest{Ref: ref, Point: point, Disks: s.keys, Since: held.since()})
	if err != nil {
		t.Fatal(err)
	}
	mode(t, capture, hypervisor.Delta)
	s.machine.Write(t, ref)
	s.take(t, held, capture, point)
	s.commit(t, capture)
}

// flatten interrupts a Flatten and repeats it while somebody looks at the machine, which
// must not be worse off for it.
func (s *suite) flatten(t *testing.T, ref hypervisor.Ref) {
	t.Helper()
	booter := s.p.(hypervisor.OverlayBooter)
	before, err := s.p.Machine(s.context(t), ref)
	if err != nil {
		t.Fatal(err)
	}
	looking, stop := context.WithCancel(s.context(t))
	var looks sync.WaitGroup
	looks.Go(func() {
		for looking.Err() == nil {
			if now, err := s.p.Machine(looking, ref); looking.Err() == nil && (err != nil || now.Power != before.Power || now.BootID != before.BootID) {
				t.Errorf("while its disks are copied the machine is %+v, %v; want it %s since %s", now, err, before.Power, before.BootID)
				return
			}
		}
	})
	defer looks.Wait()
	defer stop()
	ctx, cancel := context.WithCancel(s.context(t))
	err = booter.Flatten(ctx, ref, func(int64, int64) { cancel() })
	cancel()
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("an interrupted flatten: %v", err)
	}
	var done, total int64
	err = booter.Flatten(s.context(t), ref, func(d, of int64) {
		if d < done || d > of {
			t.Errorf("flatten went from %d to %d of %d bytes", done, d, of)
		}
		done, total = d, of
	})
	if err != nil {
		t.Fatalf("flatten: %v", err)
	}
	if done != total {
		t.Errorf("flatten ended at %d of %d bytes", done, total)
	}
}

// clone is a copy of the copies that holds the same points.
func (c *copies) clone(t *testing.T) *copies {
	t.Helper()
	out := newCopies(t)
	for key, source := range c.sources() {
		f, err := os.Create(filepath.Join(out.dir, key))
		if err != nil {
			t.Fatal(err)
		}
		out.files[key] = f
		if err := errors.Join(f.Truncate(source.Size()), copyData(t.Context(), f, source)); err != nil {
			t.Fatal(err)
		}
	}
	out.held = c.since()
	return out
}

// copyData writes what is not zero in a source.
func copyData(ctx context.Context, f *os.File, source replication.Source) error {
	buffer := make([]byte, 64<<10)
	for at := int64(0); at < source.Size(); at += int64(len(buffer)) {
		p := buffer[:min(int64(len(buffer)), source.Size()-at)]
		if _, err := source.ReadAt(p, at); err != nil {
			return err
		}
		if isZero(p) {
			continue
		}
		if _, err := f.WriteAt(p, at); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func isZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
