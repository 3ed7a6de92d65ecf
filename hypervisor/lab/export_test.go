package lab

import (
	"fmt"
	"os"
	"path/filepath"

	"riparo/hypervisor"
)

// Abandon leaves the world as a killed process does: nothing is put in order, and
// the lock is gone. The caller does not use it any more.
func (w *World) Abandon() error { return w.lock.Close() }

// RecordOnly takes the next step of a workload as far as a process that is killed
// between the record and the disk.
func (s *Site) RecordOnly(ref hypervisor.Ref) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	l := m.branch.snapshot()
	_, err = m.append(m.next(l.end()+1, l.entries[len(l.entries)-1].kind).entry)
	return err
}

// RecordGrowth does the same when a disk grows.
func (s *Site) RecordGrowth(ref hypervisor.Ref, key string, size int64) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	_, err = m.append(entry{kind: grown, disk: m.number(m.disk(key)), block: uint32(size / BlockSize)})
	return err
}

// RecordAdded does the same when a disk is added.
func (s *Site) RecordAdded(ref hypervisor.Ref, spec DiskSpec) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	number, err := m.record.addDisk(diskIdentity{Key: spec.Key, Size: spec.Size, InitialBytes: spec.InitialBytes})
	if err != nil {
		return err
	}
	d, err := createDisk(m.dir, spec.Key, spec.Size)
	if err != nil {
		return err
	}
	at := instant{m.branch.number, m.branch.snapshot().end() + 1}
	if err := d.fill(m.record.id(), number, m.record.id().superblock(number, at, false)); err != nil {
		return err
	}
	_, err = m.append(entry{kind: added, disk: number, block: uint32(spec.Size / BlockSize)})
	return err
}

// PowerOnOnly takes Start as far as a process that is killed before the boot.
func (s *Site) PowerOnOnly(ref hypervisor.Ref) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	return m.change(func(d *definition) { d.Running, d.Booting = true, true })
}

// LastWas tells what the last entry of a machine's newest branch did.
func (r *Record) LastWas() string {
	lives := r.lives()
	l := lives[len(lives)-1]
	if len(l.entries) == 0 {
		return "nothing"
	}
	switch e := l.entries[len(l.entries)-1]; e.kind {
	case zero:
		return fmt.Sprintf("discard of %d", e.count)
	case first:
		return "first of a pair"
	default:
		return "write"
	}
}

// Unfinish makes a Start that returned look like one that a kill interrupted.
func (s *Site) Unfinish(ref hypervisor.Ref) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	return m.change(func(d *definition) { d.Booting = true })
}

// Pretend lets the record believe that it holds n entries.
func (r *Record) Pretend(n int) { r.count.Store(int64(n)) }

// Folder is where a machine keeps its disks.
func (s *Site) Folder(ref hypervisor.Ref) string { return filepath.Join(s.dir, string(ref)) }

// Initial is the content of a new disk, without its superblock.
func Initial(seed uint64, size, initialBytes int64) []byte {
	d := diskIdentity{Key: "vda", Size: size, InitialBytes: initialBytes}
	out := make([]byte, size)
	for at := int64(0); at < size; at += BlockSize {
		d.fillInitial(out[at:at+BlockSize], seed, 0, uint32(at/BlockSize))
	}
	return out
}

// Written is what the workload writes at a sequence.
func Written(seed, sequence uint64) []byte {
	out := make([]byte, BlockSize)
	fillWritten(out, seed, stamp{branch: 1, sequence: sequence, block: 100})
	return out
}

// BreakDisk makes every write to a disk fail from now on.
func (s *Site) BreakDisk(ref hypervisor.Ref, key string) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	d := m.disk(key)
	if err := d.file.Close(); err != nil {
		return err
	}
	d.file, err = os.Open(diskFile(m.dir, key))
	return err
}
