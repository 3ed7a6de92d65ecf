package vault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"riparo/replication"
)

// sender sends to one disk of a vault and remembers what must be there.
type sender struct {
	t        testing.TB
	vault    *Vault
	id       replication.DiskID
	epoch    replication.Epoch
	sequence replication.Sequence
	head     []byte
	points   []modelPoint
	marks    int
}

func newSender(t testing.TB, v *Vault, id replication.DiskID, size int64) *sender {
	t.Helper()
	s := &sender{t: t, vault: v, id: id, epoch: 1, head: make([]byte, size)}
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: id, Size: size}, 1); err != nil {
		t.Fatal(err)
	}
	return s
}

// change makes a change whose data tells its place.
func change(offset, length int64, fill byte) replication.Change {
	data := make([]byte, length)
	for i := range data {
		data[i] = fill ^ byte((offset+int64(i))/100) | 1
	}
	return replication.Change{Extent: replication.Extent{Offset: offset, Length: length}, Data: data}
}

// fillNoise fills p with bytes that do not compress.
func fillNoise(p []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 5))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
}

func (s *sender) batch(changes ...replication.Change) replication.Batch {
	s.sequence++
	for _, c := range changes {
		if c.Zero() {
			clear(s.head[c.Offset:c.End()])
		} else {
			copy(s.head[c.Offset:], c.Data)
		}
	}
	return replication.Batch{Disk: s.id, Epoch: s.epoch, Sequence: s.sequence, Changes: changes}
}

func (s *sender) write(changes ...replication.Change) {
	s.t.Helper()
	if err := s.vault.Write(s.t.Context(), s.batch(changes...)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sender) mark() replication.PointID {
	s.t.Helper()
	s.sequence++
	s.marks++
	id := replication.PointID(fmt.Sprintf("p%05d", s.marks))
	m := replication.Mark{Disk: s.id, Epoch: s.epoch, Sequence: s.sequence, Point: id, Time: time.Unix(int64(s.marks), 0), Size: int64(len(s.head))}
	if err := s.vault.Mark(s.t.Context(), m); err != nil {
		s.t.Fatal(err)
	}
	s.points = append(s.points, modelPoint{id: id, content: bytes.Clone(s.head), members: []replication.DiskID{s.id}})
	return id
}

func (s *sender) drop(points ...replication.PointID) {
	s.t.Helper()
	if err := s.vault.Drop(s.t.Context(), s.id, points); err != nil {
		s.t.Fatal(err)
	}
	var kept []modelPoint
	for _, p := range s.points {
		gone := false
		for _, id := range points {
			gone = gone || p.id == id
		}
		if !gone {
			kept = append(kept, p)
		}
	}
	s.points = kept
}

func (s *sender) rewind(to replication.PointID) {
	s.t.Helper()
	s.epoch++
	if err := s.vault.Rewind(s.t.Context(), s.id, to, s.epoch); err != nil {
		s.t.Fatal(err)
	}
	for i, p := range s.points {
		if p.id == to {
			s.points, s.head = s.points[:i+1], bytes.Clone(p.content)
			return
		}
	}
}

// check compares every point and the head.
func (s *sender) check() {
	s.t.Helper()
	points, err := s.vault.Points(s.id)
	if err != nil || len(points) != len(s.points) {
		s.t.Fatalf("%d points, %v; want %d", len(points), err, len(s.points))
	}
	for i, p := range s.points {
		if points[i].ID != p.id {
			s.t.Fatalf("point %d is %s, want %s", i, points[i].ID, p.id)
		}
		s.shows(p.id, p.content)
	}
	s.shows("", s.head)
}

func (s *sender) shows(id replication.PointID, want []byte) {
	s.t.Helper()
	if err := sameContent(s.t.Context(), s.vault, s.id, id, want, true); err != nil {
		s.t.Fatal(err)
	}
}
