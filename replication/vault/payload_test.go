package vault

import (
	"context"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// The memory of a payload is used again, and belongs to one only until it is in the log.
// These tests make another one take memory just when the first still needs its own.

const largeBatch = 768 << 10 // more than smallPayload

func noise(at, length int64, seed uint64) replication.Change {
	data := make([]byte, length)
	fillNoise(data, seed)
	return replication.Change{Extent: replication.Extent{Offset: at, Length: length}, Data: data}
}

// early sends a batch before the one that comes first, and returns when its payload is made
// and waits. finish sends the first, and waits for both.
func (s *sender) early(first, second replication.Change) (finish func()) {
	s.t.Helper()
	one, two := s.batch(first), s.batch(second)
	sent := sendAside(s.t.Context(), s.vault, two)
	d := s.vault.disks[s.id]
	for waits := false; !waits; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		waits = d.queue[two.Sequence] != nil
		d.mu.Unlock()
	}
	return func() {
		s.t.Helper()
		if err := s.vault.Write(s.t.Context(), one); err != nil {
			s.t.Fatal(err)
		}
		if err := <-sent; err != nil {
			s.t.Fatal(err)
		}
	}
}

// noSpares makes the next payload that is given back the next one that is taken.
func noSpares() {
	for len(payloads.kept) > 0 {
		<-payloads.kept
	}
}

func TestABatchThatWaitsKeepsItsMemory(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), compactOptions())
	s := newSender(t, v, "d", 4<<20)
	noSpares()
	s.early(noise(0, largeBatch, 1), noise(2<<20, largeBatch, 2))()
	s.mark()
	s.check()
}

func TestABatchAndACompactionShareNoMemory(t *testing.T) {
	o := compactOptions()
	o.segmentBytes = 4 << 20
	v := open(t, vfs.OS(), t.TempDir(), o)
	s := newSender(t, v, "d", 16<<20)
	for i := range int64(12) {
		s.write(noise(i<<20, largeBatch, uint64(i)))
	}
	s.mark()
	d := v.disks["d"]
	if err := d.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	noSpares()
	appends := 0
	var finish func()
	did, err := d.compact(t.Context(), func(context.Context, int64) error {
		switch appends++; appends {
		case 1: // more of the same segment follows
			finish = s.early(noise(12<<20, largeBatch, 100), noise(13<<20, largeBatch, 101))
		case 2:
			finish()
		}
		return nil
	})
	if err != nil || !did || appends < 2 {
		t.Fatalf("compacted %v by %d appends, %v; want true by 2 or more", did, appends, err)
	}
	s.mark()
	s.check()
}
