package web

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"riparo/store"
)

const (
	// feedEvery is the least time between two tellings: a change is told at once, and
	// what follows it within that time together. Sockets send less often than that.
	feedEvery = 100 * time.Millisecond
	// share and feedLively keep the console from taking what replication needs: after what
	// a telling took to print and to send, the next one waits that many times as long,
	// which leaves it a hundredth of one processor; but no longer than a change may take to
	// be seen.
	share      = 100
	feedLively = time.Second
	// mostShare and feedSlowest are for so many browsers, or so many pages that they look
	// at, that they would take more than a tenth of a processor then.
	mostShare   = 10
	feedSlowest = 5 * time.Second
	// frameCost is what a frame takes besides being printed: to wake its socket, to look
	// whether its session holds, to encrypt and to send. Measured with 200 browsers on a
	// processor of 2 GHz; a browser that is slow to read costs no more.
	frameCost = 40 * time.Microsecond
	// freshFor is how old a printed page may be that a socket begins with. When all
	// browsers come back at once, each page is printed once a second.
	freshFor = time.Second
	// maxPending bounds the names that wait in a mailbox: more are told as everything.
	maxPending = 512
)

// feed is the one reader of changes for all sockets. Replication tells it, and however
// many browsers look on, that costs replication the same. A telling has one instant for
// all: a page that several look at is printed once.
//
// It works while there is a socket.
type feed struct {
	ctx       context.Context // ends it for good
	subscribe func() (nudge <-chan struct{}, changed func() []string, cancel func())
	working   sync.WaitGroup
	spent     atomic.Int64 // nanoseconds of a processor that the last telling took so far

	mu    sync.Mutex // guards the rest
	boxes map[*mailbox]struct{}
	told  time.Time // everything that happened before was told, or will be
	end   context.CancelFunc
}

// mailbox is where a socket finds what changed. It has one slot: a slow socket finds
// one nudge and the sum of what happened, and nobody waits for it.
type mailbox struct {
	nudge chan struct{}

	mu   sync.Mutex // guards news
	news news
}

// news is what changed since a mailbox was emptied.
type news struct {
	names   []string
	pulse   bool      // figures that have no name may have moved
	noticed time.Time // what is printed after this has it all
}

// begin makes the feed ready. It ends with ctx.
func (f *feed) begin(ctx context.Context, subscribe func() (<-chan struct{}, func() []string, func())) {
	f.ctx, f.subscribe, f.boxes = ctx, subscribe, map[*mailbox]struct{}{}
}

// join gives a mailbox, and the instant after which a page must have been printed that
// the socket begins with. Call leave when done.
func (f *feed) join() (box *mailbox, since time.Time, leave func()) {
	box = &mailbox{nudge: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.boxes) == 0 {
		ctx, end := context.WithCancel(f.ctx)
		nudge, changed, cancel := f.subscribe() // before join returns: nothing is missed
		f.end, f.told = end, time.Now()
		f.working.Go(func() {
			defer cancel()
			f.work(ctx, nudge, changed)
		})
	}
	f.boxes[box] = struct{}{}
	if since = time.Now().Add(-freshFor); since.Before(f.told) {
		since = f.told
	}
	return box, since, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if delete(f.boxes, box); len(f.boxes) == 0 {
			f.end()
		}
	}
}

// work tells what changed until ctx ends.
func (f *feed) work(ctx context.Context, nudge <-chan struct{}, changed func() []string) {
	pulse, pause := time.NewTicker(pulseEvery), time.NewTimer(0)
	defer pulse.Stop()
	defer pause.Stop()
	var waits <-chan struct{} // nudge, once the pause is over
	told := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
			if left := f.pace() - time.Since(told); left > 0 {
				pause.Reset(left) // what was spent meanwhile asks for more
			} else {
				waits = nudge
			}
			continue
		case <-waits:
			f.tell(news{names: changed()})
		case <-pulse.C:
			f.tell(news{pulse: true})
		}
		waits, told = nil, time.Now()
		pause.Reset(feedEvery)
	}
}

// pace is the time from one telling to the next.
func (f *feed) pace() time.Duration {
	spent := time.Duration(f.spent.Load())
	return max(feedEvery, min(share*spent, feedLively), min(mostShare*spent, feedSlowest))
}

// tell puts news into every mailbox.
func (f *feed) tell(n news) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n.noticed = time.Now()
	f.told = n.noticed
	f.spent.Store(0)
	for box := range f.boxes {
		box.put(n)
	}
}

func (b *mailbox) put(n news) {
	b.mu.Lock()
	b.news.pulse = b.news.pulse || n.pulse
	b.news.noticed = n.noticed
	// What waits may be shared with other mailboxes: it is never appended to in place.
	switch {
	case len(b.news.names) == 0:
		b.news.names = n.names
	case len(b.news.names)+len(n.names) > maxPending:
		b.news.names = everything
	default:
		b.news.names = append(b.news.names[:len(b.news.names):len(b.news.names)], n.names...)
	}
	b.mu.Unlock()
	select {
	case b.nudge <- struct{}{}:
	default: // the nudge before this one was not taken yet
	}
}

var everything = []string{store.Everything}

// take empties the mailbox.
func (b *mailbox) take() news {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.news
	b.news = news{}
	return n
}
