package vault

import (
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// withoutRoom is a disk whose vault was opened when there was no room to write once more
// what a crash had left in doubt.
func withoutRoom(t *testing.T) (*vfs.Sim, *sender) {
	t.Helper()
	disk := vfs.NewSim(9)
	o := Options{segmentBytes: 64 << 10}
	s := newSender(t, open(t, disk, "v", o), "d", 1<<20)
	s.write(change(0, 20_000, 1))
	s.mark()
	s.write(change(30_000, 9_000, 2))
	s.vault.kill()
	space, err := disk.Space("v")
	if err != nil {
		t.Fatal(err)
	}
	disk.SetCapacity(space.Total - space.Free + 200)
	s.vault = open(t, disk, "v", o)
	return disk, s
}

// writeSoon writes as a sender does, who tries again: a disk is not opened once more in the
// midst of a maintenance.
func (s *sender) writeSoon(b replication.Batch) {
	s.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := s.vault.Write(s.t.Context(), b)
		if err == nil {
			return
		}
		if !hasCode(err, CodeFull) || time.Now().After(deadline) {
			s.t.Fatalf("with room, and without views: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestADiskThatWasOpenedWithoutRoomGoesOnByItself(t *testing.T) {
	disk, s := withoutRoom(t)
	s.check() // it can be read
	soundReport(t, s.vault)
	b := s.batch(change(50_000, 3_000, 3))
	for range 2 {
		if err := s.vault.Write(t.Context(), b); !hasCode(err, CodeFull) {
			t.Fatalf("without room: %v, want %s", err, CodeFull)
		}
	}
	disk.SetCapacity(0)
	s.writeSoon(b)
	s.mark()
	s.check()
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{segmentBytes: 64 << 10})
	s.check()
}

func TestADiskThatWasOpenedWithoutRoomWaitsForItsViews(t *testing.T) {
	disk, s := withoutRoom(t)
	w, err := s.vault.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, w.Size())
	if err := replication.ReadFull(w, want, 0); err != nil {
		t.Fatal(err)
	}
	disk.SetCapacity(0)
	b := s.batch(change(30_000, 9_000, 3))
	for range 100 { // a maintenance that is under way would refuse it as well
		if err = s.vault.Write(t.Context(), b); !hasCode(err, CodeFull) {
			t.Fatalf("while a view is open: %v, want %s", err, CodeFull)
		}
		time.Sleep(time.Millisecond)
	}
	if !strings.Contains(err.Error(), "reads its points") {
		t.Errorf("%v: want what is in the way, which is not room", err)
	}
	if err := viewShows(w, want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.writeSoon(b)
	s.check()
}
