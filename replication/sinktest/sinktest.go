package sinktest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"riparo/replication"
)

// Reader is a Sink whose disks can be read back.
type Reader interface {
	// ReadBack gives the whole disk as it was at a point; the empty point is the head.
	ReadBack(ctx context.Context, disk replication.DiskID, point replication.PointID) ([]byte, error)
}

// Reopener is a Sink that can be closed and opened again.
type Reopener interface {
	// Reopen closes the Sink and gives it back as it is found when it is opened
	// again. The result has the same abilities.
	Reopen(t *testing.T) replication.Sink
}

// Lister is a Sink that lists its complete recovery points, the oldest first.
type Lister interface {
	Points(disk replication.DiskID) ([]replication.RecoveryPoint, error)
}

// Run holds a Sink to the contract. open gives an empty one and cleans up with t.
func Run(t *testing.T, open func(t *testing.T) replication.Sink) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *sender)
	}{
		{"PrepareMakesADisk", prepareMakesADisk},
		{"PrepareTwiceIsHarmless", prepareTwiceIsHarmless},
		{"PrepareRefusesBadDisks", prepareRefusesBadDisks},
		{"AnUnknownDiskIsRefused", unknownDiskIsRefused},
		{"WhatWasWrittenIsRead", whatWasWrittenIsRead},
		{"EveryPointGivesBackItsDisk", everyPointGivesBackItsDisk},
		{"ADiskMayHaveAnySize", diskMayHaveAnySize},
		{"ADiskGrowsWithZeroes", diskGrowsWithZeroes},
		{"WhatWasCutOffComesBackAsZero", whatWasCutOffComesBackAsZero},
		{"ZeroChangesMayBeLong", zeroChangesMayBeLong},
		{"TheLargestBatchIsTaken", largestBatchIsTaken},
		{"BadBatchesAreRefusedAndUseNoSequence", badBatchesAreRefused},
		{"BadMarksAreRefused", badMarksAreRefused},
		{"ARepeatedBatchIsIgnored", repeatedBatchIsIgnored},
		{"ARepeatedMarkIsHarmless", repeatedMarkIsHarmless},
		{"ASequenceMeansOneThing", sequenceMeansOneThing},
		{"CallsArePutInOrder", callsArePutInOrder},
		{"ACallWaitsForTheOnesBeforeIt", callWaitsForTheOnesBefore},
		{"ACallGivesUpWithItsContext", callGivesUpWithItsContext},
		{"AStaleEpochIsRefused", staleEpochIsRefused},
		{"ANewOwnerEndsTheWaitsOfTheOldOne", newOwnerEndsTheWaits},
		{"UnmarkedDataIsTold", unmarkedDataIsTold},
		{"TheSinkKeepsNoData", sinkKeepsNoData},
		{"APointNeedsAllItsMarks", pointNeedsAllItsMarks},
		{"AcknowledgedSurvivesReopening", acknowledgedSurvivesReopening},
		{"ARandomWalkEndsWhereItShould", randomWalk},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(t, &sender{sink: open(t), disks: map[replication.DiskID]*copied{}})
		})
	}
}

// sender sends to a Sink and remembers what the Sink must hold.
type sender struct {
	sink  replication.Sink
	disks map[replication.DiskID]*copied
	marks int
}

// copied is a disk as the Sink must have it.
type copied struct {
	disk     replication.Disk
	epoch    replication.Epoch
	sequence replication.Sequence
	head     []byte
	points   []pointCopy
	unmarked bool
}

type pointCopy struct {
	id      replication.PointID
	content []byte
}

// state is what the Sink must tell of the disk.
func (c *copied) state() replication.DiskState {
	s := replication.DiskState{Disk: c.disk, Epoch: c.epoch, Sequence: c.sequence, Unmarked: c.unmarked}
	if n := len(c.points); n > 0 {
		s.Point, s.PointSize = c.points[n-1].id, int64(len(c.points[n-1].content))
	}
	return s
}

// prepare prepares a disk and checks what the Sink tells of it.
func (s *sender) prepare(t *testing.T, id replication.DiskID, size int64, epoch replication.Epoch) *copied {
	t.Helper()
	c := s.disks[id]
	if c == nil {
		c = &copied{}
		s.disks[id] = c
	}
	c.disk, c.epoch = replication.Disk{ID: id, Machine: "m", Size: size}, epoch
	c.unmarked = c.unmarked || size < int64(len(c.head))
	head := make([]byte, size)
	copy(head, c.head)
	c.head = head
	got, err := s.sink.Prepare(t.Context(), c.disk, epoch)
	if err != nil {
		t.Fatalf("prepare %s with %d bytes, epoch %d: %v", id, size, epoch, err)
	}
	if got != c.state() {
		t.Fatalf("prepare %s: state %+v, want %+v", id, got, c.state())
	}
	return c
}

// batch makes a batch of changes with the next sequence and notes what it changes.
func (c *copied) batch(changes ...replication.Change) replication.Batch {
	c.sequence++
	c.unmarked = true
	for _, x := range changes {
		if x.Zero() {
			clear(c.head[x.Offset:x.End()])
		} else {
			copy(c.head[x.Offset:], x.Data)
		}
	}
	return replication.Batch{Disk: c.disk.ID, Epoch: c.epoch, Sequence: c.sequence, Changes: changes}
}

// mark makes the mark of a new point with the next sequence.
func (s *sender) mark(c *copied, members ...replication.DiskID) replication.Mark {
	s.marks++
	c.sequence++
	c.unmarked = false
	if members == nil {
		members = []replication.DiskID{c.disk.ID}
	}
	m := replication.Mark{
		Disk: c.disk.ID, Epoch: c.epoch, Sequence: c.sequence, Point: replication.PointID(fmt.Sprintf("p%04d", s.marks)),
		Time: time.Unix(1_800_000_000+int64(s.marks), 0).UTC(), Consistency: replication.CrashConsistent,
		Size: c.disk.Size, Members: members, Tag: "t",
	}
	c.points = append(c.points, pointCopy{m.Point, bytes.Clone(c.head)})
	return m
}

// write sends a batch. Its data is spoiled as soon as the Sink says that it needs it no
// more.
func (s *sender) write(t *testing.T, b replication.Batch) {
	t.Helper()
	b.Changes = slices.Clone(b.Changes)
	for i, x := range b.Changes {
		b.Changes[i].Data = bytes.Clone(x.Data)
	}
	b.Taken = func() {
		for _, x := range b.Changes {
			for i := range x.Data {
				x.Data[i] = 0xA5
			}
		}
	}
	if err := s.sink.Write(t.Context(), b); err != nil {
		t.Fatalf("write batch %d of %s: %v", b.Sequence, b.Disk, err)
	}
}

func (s *sender) close(t *testing.T, m replication.Mark) {
	t.Helper()
	if err := s.sink.Mark(t.Context(), m); err != nil {
		t.Fatalf("mark %d of %s: %v", m.Sequence, m.Disk, err)
	}
}

// check compares the Sink with what it must hold, as far as it can show it.
func (s *sender) check(t *testing.T) {
	t.Helper()
	for id, c := range s.disks {
		got, err := s.sink.Prepare(t.Context(), c.disk, c.epoch)
		if err != nil {
			t.Fatalf("prepare %s again: %v", id, err)
		}
		if got != c.state() {
			t.Fatalf("state of %s: %+v, want %+v", id, got, c.state())
		}
		r, ok := s.sink.(Reader)
		if !ok {
			continue
		}
		for _, p := range append([]pointCopy{{"", c.head}}, c.points...) {
			content, err := r.ReadBack(t.Context(), id, p.id)
			if err != nil {
				t.Fatalf("read %s at point %q: %v", id, p.id, err)
			}
			if !bytes.Equal(content, p.content) {
				t.Fatalf("%s at point %q differs: %d bytes, want %d; first difference at %d", id, p.id, len(content), len(p.content), firstDifference(content, p.content))
			}
		}
	}
}

func firstDifference(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// change makes a change with data that tells where it belongs.
func change(r *rand.Rand, offset, length int64) replication.Change {
	data := make([]byte, length)
	switch r.IntN(3) {
	case 0: // noise
		for i := range data {
			data[i] = byte(r.Uint32())
		}
	default:
		fill := byte(r.Uint32()) | 1
		for i := range data {
			data[i] = fill + byte((offset+int64(i))/512)
		}
	}
	return replication.Change{Extent: replication.Extent{Offset: offset, Length: length}, Data: data}
}

// zeroed makes a change to zero.
func zeroed(offset, length int64) replication.Change {
	return replication.Change{Extent: replication.Extent{Offset: offset, Length: length}}
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x51)) }
