package web

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"riparo/store"
)

// source is what a feed reads.
type source struct {
	nudge       chan struct{}
	subscribers atomic.Int32

	mu    sync.Mutex // guards names
	names []string
}

func (s *source) subscribe() (<-chan struct{}, func() []string, func()) {
	s.subscribers.Add(1)
	return s.nudge, s.changed, func() { s.subscribers.Add(-1) }
}

func (s *source) changed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names
	s.names = nil
	return n
}

func (s *source) change(names ...string) {
	s.mu.Lock()
	s.names = append(s.names, names...)
	s.mu.Unlock()
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// fed runs a test with a feed in a bubble where time passes at once.
func fed(t *testing.T, test func(f *feed, s *source)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := &source{nudge: make(chan struct{}, 1)}
		f := &feed{}
		f.begin(ctx, s.subscribe)
		test(f, s)
		stop()
		f.working.Wait()
		if n := s.subscribers.Load(); n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
	})
}

// TestOneReaderTellsAllSockets: two hundred sockets are one subscriber, and what they are
// told has one instant, so that what they print is printed once.
func TestOneReaderTellsAllSockets(t *testing.T) {
	fed(t, func(f *feed, s *source) {
		var boxes []*mailbox
		for range 200 {
			box, _, leave := f.join()
			defer leave()
			boxes = append(boxes, box)
		}
		if n := s.subscribers.Load(); n != 1 {
			t.Fatalf("200 sockets are %d subscribers, want 1", n)
		}
		began := time.Now()
		s.change("job/1")
		synctest.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("the first change was told after %s, want at once", took)
		}
		s.change("job/2")
		s.change("machine/3") // within the pace: with the one before
		time.Sleep(feedEvery)
		synctest.Wait()
		instant := time.Time{}
		for i, box := range boxes {
			<-box.nudge
			n := box.take()
			if !slices.Equal(n.names, []string{"job/1", "job/2", "machine/3"}) || n.pulse {
				t.Fatalf("socket %d was told %+v", i, n)
			}
			if instant.IsZero() {
				instant = n.noticed
			}
			if !n.noticed.Equal(instant) {
				t.Errorf("socket %d noticed at %s, another at %s", i, n.noticed, instant)
			}
		}
		time.Sleep(pulseEvery)
		synctest.Wait()
		for i, box := range boxes {
			if n := box.take(); !n.pulse || len(n.names) > 0 {
				t.Fatalf("the pulse told socket %d %+v", i, n)
			}
		}
	})
}

// TestASocketThatDoesNotLookHoldsUpNobody leaves one mailbox full while thousands of
// changes are told, and looks into it afterwards: one nudge, and everything.
func TestASocketThatDoesNotLookHoldsUpNobody(t *testing.T) {
	fed(t, func(f *feed, s *source) {
		stuck, _, leave := f.join()
		defer leave()
		quick, _, leave := f.join()
		defer leave()
		for i := range 2000 {
			name := fmt.Sprint("job/", i)
			s.change(name)
			var heard []string
			for range 2 { // once more when the pulse came first
				time.Sleep(feedEvery)
				synctest.Wait()
				heard = append(heard, quick.take().names...)
			}
			if !slices.Contains(heard, name) {
				t.Fatalf("change %d: the other socket was told %v", i, heard)
			}
		}
		if waits := len(stuck.nudge); waits != 1 {
			t.Errorf("%d nudges wait, want 1", waits)
		}
		n := stuck.take()
		if !slices.Contains(n.names, store.Everything) || len(n.names) > maxPending || !n.pulse {
			t.Errorf("it finds %d names, pulse %v: want everything, in at most %d names", len(n.names), n.pulse, maxPending)
		}
		if late := time.Since(n.noticed); late > pulseEvery {
			t.Errorf("what it prints has to be %s old at most, want what was told last", late)
		}
	})
}

// TestNothingIsMissedBetweenTwoSockets: what happens before a telling is told to a socket
// that joined before it, and a page from before the last telling is not what it begins with.
func TestNothingIsMissedBetweenTwoSockets(t *testing.T) {
	fed(t, func(f *feed, s *source) {
		_, first, leave := f.join()
		defer leave()
		s.change("job/1")
		synctest.Wait()
		s.change("job/2") // waits for the pace
		box, since, leave := f.join()
		defer leave()
		if since.Before(first) || since.After(time.Now()) {
			t.Errorf("it begins with what was printed after %s", since)
		}
		time.Sleep(feedEvery)
		synctest.Wait()
		if n := box.take(); !slices.Equal(n.names, []string{"job/2"}) {
			t.Errorf("it was told %v, want job/2, which was not told when it joined", n.names)
		}
		time.Sleep(time.Minute)
		if _, since, leave := f.join(); time.Since(since) > freshFor {
			t.Errorf("after a calm minute it begins with a page of %s ago, want at most %s", time.Since(since), freshFor)
		} else {
			leave()
		}
	})
}

// TestAFeedRestsWhenNobodyLooks: it subscribes with the first socket and lets go with the
// last one, again and again.
func TestAFeedRestsWhenNobodyLooks(t *testing.T) {
	fed(t, func(f *feed, s *source) {
		for range 3 {
			_, _, one := f.join()
			box, _, two := f.join()
			one()
			s.change("job/1")
			time.Sleep(feedEvery)
			synctest.Wait()
			if n := box.take(); !slices.Equal(n.names, []string{"job/1"}) {
				t.Errorf("the socket that stayed was told %v", n.names)
			}
			two()
			synctest.Wait()
			if n := s.subscribers.Load(); n != 0 {
				t.Errorf("nobody looks, and %d are subscribed", n)
			}
		}
	})
}

// TestTheConsoleTakesAHundredthOfAProcessor, as long as changes are seen within a second,
// and beyond that never more than a tenth: what a telling took decides when the next one
// is due.
func TestTheConsoleTakesAHundredthOfAProcessor(t *testing.T) {
	for _, row := range []struct {
		printed time.Duration
		frames  int
		want    time.Duration
	}{
		{0, 0, feedEvery}, {time.Millisecond, 3, feedEvery + 12*time.Millisecond}, {3 * time.Millisecond, 134, 836 * time.Millisecond},
		{40 * time.Millisecond, 200, time.Second}, {200 * time.Millisecond, 0, 2 * time.Second}, {time.Minute, 200, 5 * time.Second},
	} {
		fed(t, func(f *feed, s *source) {
			box, _, leave := f.join()
			defer leave()
			s.change("job/1")
			<-box.nudge
			told := time.Now()
			f.spent.Add(int64(row.printed + time.Duration(row.frames)*frameCost))
			s.change("job/2")
			<-box.nudge
			if waited := time.Since(told); waited != row.want {
				t.Errorf("after %s of printing and %d frames the next change was told after %s, want %s", row.printed, row.frames, waited, row.want)
			}
		})
	}
}
