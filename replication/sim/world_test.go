package sim

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing/synctest"
	"time"

	"riparo/replication"
)

// Times of the world, in virtual milliseconds.
const (
	faultsEnd   = 12_000 // until then everything fails now and then
	writingEnds = faultsEnd + 500
	// worldEnds: so long after the last fault the newest point must be the disk of the
	// machine. The longest wait of any part is a second.
	worldEnds = writingEnds + 20_000
)

// disks of the machine, with their sizes in bytes: one ends inside of a sector.
var disks = []replication.Disk{
	{ID: "m.a", Machine: "m", Size: 150_000},
	{ID: "m.b", Machine: "m", Size: 40_300},
}

// world is one run.
type world struct {
	ctx    context.Context
	seed   uint64
	random *rand.Rand
	now    int64 // milliseconds
	wall   int64 // what the clocks on the walls are ahead of now, milliseconds
	events events
	count  int64 // of events so far; orders those of one moment

	hosts  [2]*host
	target *target
	link   link
	owner  int // the host that the machine belongs to
	epoch  replication.Epoch
	points ledger
	change *failover // under way

	flipped bool // what the target's disk holds was changed: errors are honest now
	lied    bool // by an fsync that promised what did not come
	fired   map[string]int
	sum     hash.Hash
	trace   []string
	wrong   error
	looks   int    // how often the points were looked at between starts
	room    []byte // that views are read into
}

func newWorld(ctx context.Context, seed uint64) *world {
	w := &world{ctx: ctx, seed: seed, random: rand.New(rand.NewPCG(seed, 0x51)), epoch: 1, fired: map[string]int{}, sum: sha256.New()}
	w.points = newLedger()
	w.target = newTarget(w)
	for i := range w.hosts {
		w.hosts[i] = newHost(w, i)
	}
	w.hosts[0].own(1)
	return w
}

// run lives through a seed, and returns what went wrong.
func (w *world) run() error {
	w.target.boot()
	for _, h := range w.hosts {
		h.start()
	}
	w.scheduleFaults()
	w.at(faultsEnd, "the faults end", w.calm)
	for w.wrong == nil && len(w.events) > 0 && w.now < worldEnds {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		w.note("%s", e.what)
		e.do()
		w.settle()
	}
	if w.wrong == nil {
		w.arrived()
	}
	w.end()
	return w.wrong
}

// settle lets the goroutines of the world run until all are blocked, and takes what
// they ask for in a fixed order, until they ask for nothing more.
func (w *world) settle() {
	for again := true; again; {
		synctest.Wait()
		again = w.target.collect()
		for _, h := range w.hosts {
			again = h.collect() || again
		}
	}
}

// end leaves no goroutine behind.
func (w *world) end() {
	for _, h := range w.hosts {
		h.stopTransfer()
	}
	w.target.down()
	synctest.Wait()
}

// violation ends the run.
func (w *world) violation(format string, args ...any) {
	if w.wrong == nil {
		w.wrong = fmt.Errorf(format, args...)
		w.note("VIOLATION %v", w.wrong)
	}
}

// note adds to the trace. What it says must follow from the seed alone.
func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%6d "+format, append([]any{w.now}, args...)...)
	w.sum.Write([]byte(line))
	if len(w.trace) == 400 {
		w.trace = append(w.trace[:0], w.trace[200:]...)
	}
	w.trace = append(w.trace, line)
}

// fault counts a fault that happened.
func (w *world) fault(kind string) {
	w.fired[kind]++
	w.note("FAULT %s", kind)
}

// clock is the time on the wall, which jumps.
func (w *world) clock() time.Time { return time.UnixMilli(1_800_000_000_000 + w.now + w.wall).UTC() }

func (w *world) quiet() bool { return w.now >= faultsEnd }

// chance is true n times in 1000 while faults happen.
func (w *world) chance(n int) bool { return !w.quiet() && w.random.IntN(1000) < n }

// between gives a time from a to b.
func (w *world) between(a, b int64) int64 { return a + w.random.Int64N(b-a+1) }

// event is something that will happen.
type event struct {
	at, order int64
	what      string
	do        func()
}

func (w *world) at(when int64, what string, do func()) {
	w.count++
	heap.Push(&w.events, event{when, w.count, what, do})
}

func (w *world) after(d int64, what string, do func()) { w.at(w.now+d, what, do) }

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
