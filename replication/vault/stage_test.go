package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// underWay takes the lead, as if the append of so many records were under way. end gives it
// back: that append has failed.
func underWay(t *testing.T, d *disk, records replication.Sequence) (end func()) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.reach = d.sequence + records
	end = sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.reach = 0
		d.follow()
	})
	t.Cleanup(end) // a vault is not closed before
	return end
}

// onStage waits until so many records are on the stage.
func onStage(t *testing.T, d *disk, want int) {
	t.Helper()
	got := 0
	for range 2000 {
		d.mu.Lock()
		if got = 0; d.stage != nil {
			got = d.stage.drafts
		}
		d.mu.Unlock()
		if got == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d records on the stage, want %d", got, want)
}

// placesLeft fails unless all places for stages are free.
func placesLeft(t *testing.T) {
	t.Helper()
	if len(stages) > 0 {
		t.Errorf("%d places for stages are taken", len(stages))
	}
}

// sendAside sends a batch and tells later what became of it.
func sendAside(ctx context.Context, v *Vault, b replication.Batch) <-chan error {
	sent := make(chan error, 1)
	go func() { sent <- v.Write(ctx, b) }()
	return sent
}

func TestWhatIsStagedIsAppended(t *testing.T) {
	dir := t.TempDir()
	o := compactOptions()
	o.segmentBytes = 5 << 20
	v := open(t, vfs.OS(), dir, o)
	s := newSender(t, v, "d", 16<<20)
	d := v.disks["d"]
	for round := range int64(4) { // some of them begin a segment
		end := underWay(t, d, 0)
		var sent []<-chan error
		for i := range int64(3) {
			sent = append(sent, sendAside(t.Context(), v, s.batch(noise(i<<20+round*5000, 70<<10+round*1000, uint64(10*round+i)))))
			onStage(t, d, int(i)+1)
		}
		for i := range 2 * (3 - round) { // some find no room on it
			sent = append(sent, sendAside(t.Context(), v, s.batch(noise(8<<20+i<<20, 1<<20, uint64(100*round+i)))))
		}
		end()
		for _, c := range sent {
			if err := <-c; err != nil {
				t.Fatal(err)
			}
		}
		s.mark()
	}
	s.check()
	placesLeft(t)
	soundReport(t, v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, vfs.OS(), dir, o)
	s.check()
	soundReport(t, s.vault)
}

func TestAStageGoesWithTheAppendBeforeIt(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), compactOptions())
	s := newSender(t, v, "d", 4<<20)
	d := v.disks["d"]
	end := underWay(t, d, 1)
	first := s.batch(noise(0, 100<<10, 1))
	second := sendAside(t.Context(), v, s.batch(noise(50<<10, 100<<10, 2)))
	onStage(t, d, 1)
	end() // the first one has failed, and comes again
	if err := v.Write(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	s.mark()
	s.check()
	placesLeft(t)
}

func TestWhatIsWithdrawnLeavesTheStage(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), compactOptions())
	s := newSender(t, v, "d", 4<<20)
	d := v.disks["d"]
	end := underWay(t, d, 0)
	first := sendAside(t.Context(), v, s.batch(noise(0, 100<<10, 1)))
	onStage(t, d, 1)
	ctx, cancel := context.WithCancel(t.Context())
	b := s.batch(noise(50<<10, 100<<10, 2))
	second := sendAside(ctx, v, b)
	onStage(t, d, 2)
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Fatalf("canceled: %v", err)
	}
	placesLeft(t)
	end()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := v.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.mark()
	s.check()

	end = underWay(t, d, 0)
	third := sendAside(t.Context(), v, s.batch(noise(0, 100<<10, 3)))
	onStage(t, d, 1)
	d.mu.Lock()
	d.refuse(d.preparedAnew())
	d.mu.Unlock()
	if err := <-third; !errors.Is(err, replication.ErrSequence) {
		t.Fatalf("refused: %v", err)
	}
	end()
	placesLeft(t)
}

func TestAStageLeavesItsPlaceWhenTheDiskIsFull(t *testing.T) {
	disk := vfs.NewSim(7)
	v := open(t, disk, "/vault", compactOptions())
	s := newSender(t, v, "d", 4<<20)
	s.write(noise(0, 100<<10, 1)) // what follows needs another segment
	d := v.disks["d"]
	end := underWay(t, d, 0)
	b := s.batch(noise(50<<10, 100<<10, 2))
	sent := sendAside(t.Context(), v, b)
	onStage(t, d, 1)
	disk.SetCapacity(1)
	end()
	if err := <-sent; !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("written to a full disk: %v", err)
	}
	placesLeft(t)
	disk.SetCapacity(0)
	if err := v.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.mark()
	s.check()
}

// TestManyBatchesUnderWay sends batches side by side, takes some back and sends them again,
// and lets the disk be full now and then.
func TestManyBatchesUnderWay(t *testing.T) {
	disk := vfs.NewSim(7)
	o := compactOptions()
	o.segmentBytes = 2 << 20
	v := open(t, disk, "/vault", o)
	s := newSender(t, v, "d", 8<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 6 {
		var all sync.WaitGroup
		ended := make(chan struct{})
		for i := range 40 {
			b := s.batch(noise(r.Int64N(7<<20), 1+r.Int64N(300<<10), uint64(round*100+i)))
			patience := time.Duration(r.Int64N(3000)) * time.Microsecond
			all.Go(func() {
				for try := 1; ; try++ {
					ctx, cancel := context.WithTimeout(t.Context(), patience*time.Duration(try))
					err := v.Write(ctx, b)
					cancel()
					if err == nil {
						return
					}
					if p, ok := errors.AsType[*replication.Problem](err); !errors.Is(err, context.DeadlineExceeded) && !(ok && errors.Is(err, vfs.ErrNoSpace) && p != nil) {
						t.Errorf("batch %d: %v", b.Sequence, err)
						return
					}
				}
			})
		}
		var full sync.WaitGroup
		full.Go(func() {
			for n := int64(1); ; n++ {
				select {
				case <-ended:
					disk.SetCapacity(0)
					return
				case <-time.After(2 * time.Millisecond):
					disk.SetCapacity(n % 2) // one byte, or no limit
				}
			}
		})
		all.Wait()
		close(ended)
		full.Wait()
		s.mark()
	}
	s.check()
	placesLeft(t)
	soundReport(t, v)
}
