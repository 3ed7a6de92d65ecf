package sim

import (
	"bytes"

	"riparo/replication"
	"riparo/replication/vfs"
)

// failover moves the machine to the other host: the vault goes back to a point and
// takes a new owner, and then the machine starts on the bytes of that point. Whoever
// owned it before is refused, also when it does not know yet.
type failover struct {
	w       *world
	point   replication.PointID
	to      int
	planned [][]byte // what the machine left behind; nil when nobody was asked
	step    int      // disks that are done
}

// failOver begins an unplanned failover to one of the newest points.
func (w *world) failOver() {
	w.after(w.between(1500, 6000), "a failover is wanted", w.failOver)
	if w.quiet() || w.change != nil || w.target.vault == nil || w.hosts[w.owner].leaving {
		return
	}
	listed := w.listed()
	if len(listed) == 0 {
		return
	}
	w.fault("unplanned failover")
	w.begin(&failover{w: w, point: listed[len(listed)-1-w.random.IntN(min(3, len(listed)))].ID, to: 1 - w.owner})
}

// leave begins a planned failover: the machine stops, and one more point is taken.
func (w *world) leave() {
	w.after(w.between(1500, 6000), "a planned failover is wanted", w.leave)
	h := w.hosts[w.owner]
	if w.quiet() || w.change != nil || !h.up || !h.running || h.leaving {
		return
	}
	h.leaving, h.planned = true, ""
	w.note("host %d stops the machine", h.number)
	w.after(1200, "the planned failover took too long", func() {
		if h.leaving && w.change == nil {
			h.leaving = false
		}
	})
}

// arrivedAs goes on with a planned failover when the last point arrived.
func (f *failover) arrivedAs(h *host, c *capture) {
	w := h.w
	if f != nil || !h.leaving || c.id != h.planned || !h.running || h.number != w.owner || w.quiet() {
		return
	}
	w.fault("planned failover")
	h.running = false
	w.begin(&failover{w: w, point: c.id, to: 1 - w.owner, planned: h.content})
}

func (w *world) begin(f *failover) {
	w.change = f
	w.epoch++
	past := false
	for _, id := range w.points.order {
		// What the vault lists behind the point goes; so does what is still on its way.
		if past {
			w.points.captures[id].going = true
		}
		past = past || id == f.point
	}
	w.after(0, "the vault goes back to the point", f.goOn)
}

// goOn does the next step, and the same again while it does not succeed.
func (f *failover) goOn() {
	w := f.w
	if v := w.target.vault; v != nil {
		for f.step < len(disks) {
			if err := v.Rewind(w.ctx, disks[f.step].ID, f.point, w.epoch); err != nil {
				w.note("rewind: %v", err)
				w.target.damaged = true
				break
			}
			f.step++
		}
		if f.step == len(disks) && f.start() {
			return
		}
		if w.flipped {
			f.anew()
			return
		}
	}
	w.after(50, "the failover goes on", f.goOn)
}

// start starts the machine on the bytes of the point.
func (f *failover) start() bool {
	w := f.w
	h, c := w.hosts[f.to], w.points.captures[f.point]
	if w.target.disk.PowerIsCut() || !h.up {
		return false
	}
	for i, d := range disks {
		if !w.shows(d.ID, f.point, c.content[i]) {
			return w.wrong != nil
		}
		if f.planned != nil && !bytes.Equal(f.planned[i], c.content[i]) {
			w.violation("LOST: the planned failover to %s left something of disk %s behind", f.point, d.ID)
			return true
		}
	}
	h.stopTransfer()
	for i := range disks {
		copy(h.content[i], c.content[i])
		h.dirty[i].clear()
		h.sending[i].clear()
	}
	// What the vault does not have now can only be sent by somebody who was deposed.
	there := map[replication.PointID]bool{}
	for _, p := range w.listed() {
		there[p.ID] = true
	}
	for _, id := range w.points.order {
		if !there[id] {
			w.points.captures[id].going, w.points.captures[id].gone = true, true
		}
	}
	h.own(w.epoch)
	h.base, h.tracked = f.point, true // its bitmap begins where the point ends
	w.owner, w.change = f.to, nil
	w.note("the machine runs on host %d, epoch %d, from %s", f.to, w.epoch, f.point)
	return true
}

// anew: the point cannot be used because bits of the storage flipped, and that was
// told. The machine stays where it is, with a new vault.
func (f *failover) anew() {
	w := f.w
	w.change = nil
	w.target.down()
	w.target.onto(vfs.NewSim(w.seed + 2))
	w.points = newLedgerAfter(w.points)
	h := w.hosts[w.owner]
	h.stopTransfer()
	h.own(w.epoch)
	w.target.boot()
}
