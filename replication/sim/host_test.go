package sim

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"riparo/replication"
)

// grain of the dirty bitmaps, bytes: smaller than the blocks of everything else, so
// that alignment is no help.
const grain = 1 << 10

// host is a place where the machine may run, with its process server.
type host struct {
	w       *world
	number  int
	up      bool
	running bool // the machine runs here
	epoch   replication.Epoch
	content [][]byte // of the disks

	// What changed since the instant of the point base, by grain. During a transfer
	// the changes before its instant are in sending.
	dirty, sending []bitmap
	tracked        bool // the bitmaps are to be believed
	base           replication.PointID
	attempted      replication.PointID // sent after base; whether it arrived is not known
	alone          bool                // nobody else has sent anything since base, for all it knows

	session  uint64 // of the last connection; a host never uses one twice
	transfer *transfer
	planned  replication.PointID // the last point before a planned failover; its name, when taken
	leaving  bool                // the machine is stopped for a planned failover
}

func newHost(w *world, number int) *host {
	h := &host{w: w, number: number, up: true}
	for _, d := range disks {
		h.content = append(h.content, make([]byte, d.Size))
		h.dirty = append(h.dirty, newBitmap(d.Size))
		h.sending = append(h.sending, newBitmap(d.Size))
	}
	return h
}

// own makes this the host of the machine, on disks whose content has no tracking yet.
func (h *host) own(epoch replication.Epoch) {
	h.running, h.epoch, h.tracked, h.base, h.attempted, h.alone = true, epoch, false, "", "", false
	h.leaving, h.planned = false, ""
}

// start lets time pass for the host.
func (h *host) start() {
	h.w.after(h.w.between(1, 30), fmt.Sprintf("host %d writes", h.number), h.write)
	h.w.after(h.w.between(20, 200), fmt.Sprintf("host %d captures", h.number), h.tick)
}

// write is what the machine does.
func (h *host) write() {
	h.w.after(h.w.between(5, 60), fmt.Sprintf("host %d writes", h.number), h.write)
	if !h.up || !h.running || h.leaving || h.w.now > writingEnds {
		return
	}
	r := h.w.random
	for range 1 + r.IntN(3) {
		i := r.IntN(len(disks))
		size := disks[i].Size
		at := r.Int64N(size)
		length := 1 + r.Int64N(min(size-at, 9000))
		p := h.content[i][at : at+length]
		switch r.IntN(5) {
		case 0:
			clear(p)
		case 1:
			for j := range p {
				p[j] = byte(r.Uint32())
			}
		default:
			fill := byte(r.Uint32())
			for j := range p {
				p[j] = fill + byte(j/100)
			}
		}
		h.dirty[i].set(replication.Extent{Offset: at, Length: length})
	}
}

// tick begins a transfer when none is under way.
func (h *host) tick() {
	h.w.after(h.w.between(100, 300), fmt.Sprintf("host %d captures", h.number), h.tick)
	if h.up && h.running && h.transfer == nil {
		h.capture()
	}
}

// capture freezes the disks at one instant and sends what changed.
func (h *host) capture() {
	w := h.w
	h.session++
	c := &capture{id: replication.PointID(fmt.Sprintf("%04d-%d", len(w.points.captures), h.number)), epoch: h.epoch, time: w.clock()}
	for _, p := range h.content {
		c.content = append(c.content, bytes.Clone(p))
	}
	w.points.capture(c)
	t := &transfer{host: h, capture: c, tracked: h.tracked, base: h.base, attempted: h.attempted, alone: h.alone}
	for i := range disks {
		h.sending[i].add(h.dirty[i])
		h.dirty[i].clear()
		t.delta = append(t.delta, h.sending[i].regions(disks[i].Size))
	}
	if h.leaving {
		h.planned = c.id
	}
	h.attempted = c.id
	t.conn = &conn{w: w, host: h, session: h.session, calls: map[uint64]*call{}}
	if w.chance(15) {
		t.brokenAt = 1 + w.random.Int64N(disks[0].Size)
	}
	w.note("host %d captures %s, tracked %v", h.number, c.id, h.tracked)
	ctx, cancel := context.WithCancel(w.ctx)
	t.cancel = cancel
	h.transfer = t
	go func() {
		err := t.run(ctx)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.ended, t.err = true, err
	}()
}

// collect sends what the transfer asks for, and takes its end.
func (h *host) collect() bool {
	t := h.transfer
	if t == nil {
		return false
	}
	again := t.conn.collect()
	t.mu.Lock()
	ended, err := t.ended, t.err
	t.mu.Unlock()
	if !ended {
		return again
	}
	h.transfer = nil
	t.cancel()
	t.conn.shut()
	if err == nil {
		h.safe(t)
		return true
	}
	h.unsafe(t)
	return true
}

// safe: the far end has the point. What was sent need not be sent again.
func (h *host) safe(t *transfer) {
	h.w.note("host %d: %s is safe", h.number, t.capture.id)
	for i := range disks {
		h.sending[i].clear()
	}
	h.base, h.attempted, h.tracked, h.alone = t.capture.id, "", true, true
	h.w.points.acknowledged(t.capture.id)
	h.w.change.arrivedAs(h, t.capture)
}

// unsafe: what was sent has to be sent again, with what changed since.
func (h *host) unsafe(t *transfer) {
	h.w.note("host %d: %s failed, outcome %d", h.number, t.capture.id, t.conn.failed)
	for i := range disks {
		h.dirty[i].add(h.sending[i])
		h.sending[i].clear()
	}
	if t.brokenAt > 0 && t.broke() {
		h.w.fault("source read error")
	}
	if t.conn.failed == stale {
		h.w.fault("deposed owner refused")
		h.running = false
	}
}

// stopTransfer is the end of the process server.
func (h *host) stopTransfer() {
	t := h.transfer
	if t == nil {
		return
	}
	t.conn.shut()
	t.cancel()
	h.transfer = nil
	for i := range disks {
		h.dirty[i].add(h.sending[i])
		h.sending[i].clear()
	}
}

// crash ends the host: its disks stay, the bitmaps in its memory are gone.
func (h *host) crash() {
	h.stopTransfer()
	h.up, h.tracked = false, false
	for i := range disks {
		h.dirty[i].clear()
	}
	h.w.after(h.w.between(50, 1000), fmt.Sprintf("host %d is up again", h.number), func() { h.up = true })
}

// transfer brings one capture to the target.
type transfer struct {
	host            *host
	capture         *capture
	conn            *conn
	cancel          context.CancelFunc
	tracked         bool
	base, attempted replication.PointID
	alone           bool
	delta           [][]replication.Region
	brokenAt        int64 // a place of the first disk that cannot be read; 0: none

	mu    sync.Mutex // guards below
	ended bool
	err   error
	read  bool // the broken place was read
}

func (t *transfer) broke() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.read
}
