package kvm_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
	"riparo/replication"
)

// replica is what a vault would hold of a machine: one plain file per disk, brought
// forward by captures. It is far simpler than the vault, so that what is found wrong
// is the capture's fault.
type replica struct {
	t      *testing.T
	s      *site
	ref    hypervisor.Ref
	folder string
	since  map[string]replication.PointID
	taken  int
}

func (s *site) replica(ref hypervisor.Ref) *replica {
	return &replica{t: s.t, s: s, ref: ref, folder: s.t.TempDir(), since: map[string]replication.PointID{}}
}

func (r *replica) file(key string) string { return filepath.Join(r.folder, key+".raw") }

// nextPoint names points so that they sort by age.
func (r *replica) nextPoint() replication.PointID {
	r.taken++
	return replication.PointID(fmt.Sprintf("20261123T0900%02d.000Z-test", r.taken))
}

func (r *replica) request(want replication.Consistency) hypervisor.PointRequest {
	return hypervisor.PointRequest{Ref: r.ref, Point: r.nextPoint(), Disks: []string{"vda", "vdb"}, Since: r.since, Want: want, FreezeLimit: 10 * time.Second}
}

// taken point: what a capture said and how much was read.
type point struct {
	id            replication.PointID
	instant       hypervisor.Instant
	before, after int // counts that bracket the instant
	modes         map[string]hypervisor.CaptureMode
	reasons       map[string]string
	read          int64
}

// take captures the machine, brings the files forward and commits.
func (r *replica) take(want replication.Consistency) point {
	r.t.Helper()
	request := r.request(want)
	before := r.s.counter(r.ref)
	c, err := r.s.BeginPoint(r.t.Context(), request)
	if err != nil {
		r.t.Fatalf("begin point %s: %v", request.Point, err)
	}
	p := point{id: request.Point, instant: c.Instant(), before: before, after: r.s.counter(r.ref) + 1}
	p.modes, p.reasons, p.read = r.apply(c)
	if err := c.Commit(r.t.Context()); err != nil {
		r.t.Fatalf("commit point %s: %v", request.Point, err)
	}
	if err := c.Commit(r.t.Context()); err != nil {
		r.t.Fatalf("commit point %s again: %v", request.Point, err)
	}
	for _, key := range request.Disks {
		r.since[key] = request.Point
	}
	return p
}

// apply reads a capture into the files.
func (r *replica) apply(c hypervisor.Capture) (modes map[string]hypervisor.CaptureMode, reasons map[string]string, read int64) {
	r.t.Helper()
	modes, reasons = map[string]hypervisor.CaptureMode{}, map[string]string{}
	for _, d := range c.Disks() {
		modes[d.Key()], reasons[d.Key()] = d.Mode(), d.Reason()
		n, err := bringForward(r.t.Context(), d, r.file(d.Key()))
		if err != nil {
			r.t.Fatalf("read disk %s: %v", d.Key(), err)
		}
		read += n
	}
	return modes, reasons, read
}

// bringForward writes the regions of a source into a file.
func bringForward(ctx context.Context, source replication.Source, path string) (read int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if err := file.Truncate(source.Size()); err != nil {
		return 0, err
	}
	buffer := make([]byte, 1<<20)
	for region, err := range source.Regions(ctx) {
		if err != nil {
			return read, err
		}
		for at := region.Offset; at < region.End(); {
			piece := buffer[:min(int64(len(buffer)), region.End()-at)]
			if region.Zero {
				clear(piece)
			} else {
				if _, err := source.ReadAt(piece, at); err != nil {
					return read, err
				}
				read += int64(len(piece))
			}
			if _, err := file.WriteAt(piece, at); err != nil {
				return read, err
			}
			at += int64(len(piece))
		}
	}
	return read, nil
}

// boot runs a copy of the replica in a machine of its own that checks the disks, and
// returns what it found.
func (r *replica) boot(name string) guest.Findings {
	r.t.Helper()
	d := kvm.Definition{Name: name, MemoryMiB: 192, CPUs: 1, Kernel: r.s.kit.Kernel, Initrd: r.s.kit.Initrd, Append: guest.Append(guest.Verify)}
	for _, key := range []string{"vda", "vdb"} {
		// An overlay, so that the check's own writes stay out of the replica.
		overlay := filepath.Join(r.folder, name+"-"+key+".qcow2")
		r.s.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", r.file(key), overlay)
		flat := filepath.Join(r.folder, name+"-"+key+".raw")
		r.s.run("qemu-img", "convert", "-O", "raw", overlay, flat)
		d.Disks = append(d.Disks, kvm.DiskDefinition{Key: key, Path: flat, Format: "raw"})
	}
	if err := r.s.Define(d); err != nil {
		r.t.Fatal(err)
	}
	ref := hypervisor.Ref(name)
	r.s.start(ref, hypervisor.StartOptions{})
	f := guest.ReadFindings(r.s.await(ref, "DONE"))
	// It powers off by itself.
	if outcome, err := r.s.Stop(r.t.Context(), ref, bootLimit); err != nil || outcome == hypervisor.PoweredOff {
		r.t.Errorf("%s: %s, %v", name, outcome, err)
	}
	return f
}

// judge checks what a boot found against what the point promised.
func (r *replica) judge(p point) {
	r.t.Helper()
	name := fmt.Sprintf("check%d", r.taken)
	f := r.boot(name)
	consistent := p.instant.Consistency != replication.CrashConsistent
	for _, disk := range []string{"vda", "vdb"} {
		if f.Fsck[disk] != 0 {
			r.t.Errorf("point %s: fsck of %s: status %d", p.id, disk, f.Fsck[disk])
		}
		if consistent && (f.Recovered[disk] || f.RawFsck[disk] != 0) {
			r.t.Errorf("point %s is %s-consistent and mounting %s recovered its journal: %v (fsck before: %d)", p.id, p.instant.Consistency, disk, f.Recovered[disk], f.RawFsck[disk])
		}
		if n, ok := f.Counters[disk]; !ok || n < p.before || n > p.after+1 {
			r.t.Errorf("point %s: counter of %s is %d (%v), want %d to %d", p.id, disk, n, ok, p.before, p.after+1)
		}
	}
	// The second disk is counted first: at one instant it is never behind, and never
	// more than one ahead.
	if ahead := f.Counters["vdb"] - f.Counters["vda"]; ahead < 0 || ahead > 1 {
		r.t.Errorf("point %s: the disks are not of one instant: counters %v", p.id, f.Counters)
	}
	if f.Bad != 0 || f.Files == 0 || f.LogLast < f.Counters["vda"] || f.LogLines < f.LogLast {
		r.t.Errorf("point %s: files: %+v", p.id, f)
	}
	if r.t.Failed() {
		r.t.Logf("console of %s: %s", name, tail(r.s.console(hypervisor.Ref(name))))
	}
}

// sameAs compares the files with the disks of the stopped machine, byte for byte.
func (r *replica) sameAs(ref hypervisor.Ref) {
	r.t.Helper()
	for _, key := range []string{"vda", "vdb"} {
		disk, err := r.s.OpenDisk(r.t.Context(), ref, key, hypervisor.ReadOnly)
		if err != nil {
			r.t.Fatal(err)
		}
		want, err := os.ReadFile(r.file(key))
		if err != nil {
			r.t.Fatal(err)
		}
		got := make([]byte, disk.Size())
		if _, err := disk.ReadAt(got, 0); err != nil {
			r.t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			r.t.Errorf("disk %s of %s and its replica differ first at %d", key, ref, firstDifference(got, want))
		}
		if err := disk.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
