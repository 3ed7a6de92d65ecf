package providertest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"riparo/hypervisor"
	"riparo/replication"
)

// open opens a disk and closes it when the test is over.
func (s *suite) open(t *testing.T, ref hypervisor.Ref, key string, mode hypervisor.OpenMode) hypervisor.OpenedDisk {
	t.Helper()
	d, err := s.p.(hypervisor.DiskOpener).OpenDisk(s.context(t), ref, key, mode)
	if err != nil {
		t.Fatalf("open disk %s of machine %s: %v", key, ref, err)
	}
	return d
}

func (s *suite) opensDisk(t *testing.T) {
	offered[hypervisor.DiskOpener](t, s.p, "DiskOpener")
	m := s.create(t, s.spec("riparo-suite-replica", "m-suite/open"))
	const size = 5 * mib
	model := make([]byte, size)
	write := func(d hypervisor.OpenedDisk, at int64, with []byte) {
		t.Helper()
		copy(model[at:], with)
		if _, err := d.WriteAt(with, at); err != nil {
			t.Fatalf("write %d bytes at %d: %v", len(with), at, err)
		}
	}
	zero := func(d hypervisor.OpenedDisk, e replication.Extent) {
		t.Helper()
		clear(model[e.Offset:e.End()])
		if err := d.Zero(e); err != nil {
			t.Fatalf("zero %s: %v", e, err)
		}
	}
	d := s.open(t, m.Ref, "vdb", hypervisor.ReadWrite)
	if d.Size() != size {
		t.Fatalf("the disk has %d bytes: want %d", d.Size(), size)
	}
	write(d, 0, pattern(1, 300000))
	write(d, 777, pattern(2, 1000)) // inside of blocks
	write(d, size-4096, pattern(3, 4096))
	write(d, 2*mib, pattern(4, mib))
	zero(d, replication.Extent{Offset: 2*mib + 128<<10, Length: 256 << 10})
	zero(d, replication.Extent{Offset: 4096, Length: 4096})
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		t.Fatal(err)
	}
	d = s.open(t, m.Ref, "vdb", hypervisor.ReadOnly)
	got := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(d, 0, size), got); err != nil {
		t.Fatal(err)
	}
	if at := firstDifference(got, model); at >= 0 {
		t.Errorf("byte %d is %#x: want %#x", at, got[at], model[at])
	}
	checkRegions(t, d, true)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.p.(hypervisor.DiskOpener).OpenDisk(s.context(t), m.Ref, "riparo-no-such-disk", hypervisor.ReadOnly); err == nil {
		t.Error("a disk that does not exist was opened")
	}
}

// stamps: the stamp of a machine's disks stays as long as nobody writes to them, and is
// another one afterwards.
func (s *suite) stamps(t *testing.T) {
	opener := offered[hypervisor.DiskOpener](t, s.p, "DiskOpener")
	m := s.create(t, s.spec("riparo-suite-replica", "m-suite/open"))
	stamp := func() string {
		t.Helper()
		text, err := opener.Stamp(s.context(t), m.Ref)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := stamp()
	if before == "" {
		t.Skip("not offered: this provider cannot tell whether disks were written")
	}
	for _, key := range []string{"vda", "vdb"} {
		if again := stamp(); again != before {
			t.Errorf("nobody wrote, and the stamp is %q: want %q", again, before)
		}
		a, b := s.open(t, m.Ref, "vda", hypervisor.ReadWrite), s.open(t, m.Ref, "vdb", hypervisor.ReadWrite)
		d := map[string]hypervisor.OpenedDisk{"vda": a, "vdb": b}[key]
		// The same bytes as are there: written is written.
		if _, err := d.WriteAt(make([]byte, 4096), mib); err != nil {
			t.Error(err)
		}
		if err := errors.Join(d.Sync(), a.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
		after := stamp()
		if after == before {
			t.Errorf("disk %s was written, and the stamp is %q as before", key, after)
		}
		before = after
	}
	if s.h.Reopen != nil {
		s.p = s.h.Reopen(t, s.p)
		opener = s.p.(hypervisor.DiskOpener)
		if again := stamp(); again != before {
			t.Errorf("after a crash of the appliance the stamp is %q: want %q", again, before)
		}
	}
	if _, err := opener.Stamp(s.context(t), "riparo-no-such-machine"); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("the stamp of a machine that does not exist: %v: want ErrNoMachine", err)
	}
}

// stampOfSource is "" for a provider that has none.
func (s *suite) stampOfSource(t *testing.T) string {
	t.Helper()
	opener, ok := s.p.(hypervisor.DiskOpener)
	if !ok {
		return ""
	}
	stamp, err := opener.Stamp(s.context(t), s.ref)
	if err != nil {
		t.Errorf("look at the disks of the stopped source: %v", err)
	}
	return stamp
}

func (s *suite) opensReadOnly(t *testing.T) {
	offered[hypervisor.DiskOpener](t, s.p, "DiskOpener")
	m := s.create(t, s.spec("riparo-suite-replica", "m-suite/open"))
	d := s.open(t, m.Ref, "vda", hypervisor.ReadOnly)
	if _, err := d.WriteAt(pattern(1, 4096), 0); err == nil {
		t.Error("a disk that was opened for reading took a write")
	}
	if err := d.Zero(replication.Extent{Length: 4096}); err == nil {
		t.Error("a disk that was opened for reading let itself be zeroed")
	}
	p := make([]byte, 4096)
	if _, err := d.ReadAt(p, 0); err != nil || !bytes.Equal(p, make([]byte, len(p))) {
		t.Errorf("a new disk does not read zero: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func (s *suite) refusesRunning(t *testing.T) {
	opener := offered[hypervisor.DiskOpener](t, s.p, "DiskOpener")
	s.running(t)
	for _, mode := range []hypervisor.OpenMode{hypervisor.ReadOnly, hypervisor.ReadWrite} {
		if d, err := opener.OpenDisk(s.context(t), s.ref, s.keys[0], mode); err == nil {
			t.Errorf("the disk of a running machine was opened; closing it: %v", d.Close())
		}
	}
	if stamp, err := opener.Stamp(s.context(t), s.ref); err != nil || stamp != "" {
		t.Errorf("the stamp of a running machine is %q, %v: want none", stamp, err)
	}
}

// pattern is n bytes that differ from those of another number.
func pattern(number byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = number ^ byte(i) ^ byte(i>>8) | 1
	}
	return p
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}
