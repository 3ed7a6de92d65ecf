package sim

import (
	"bytes"
	"slices"
	"time"

	"riparo/replication"
	"riparo/replication/vault"
)

// capture is an instant of the machine.
type capture struct {
	id      replication.PointID
	epoch   replication.Epoch
	time    time.Time
	content [][]byte

	acked bool // the target said that it has the point
	going bool // it may be gone: a drop or a rewind past it was begun
	gone  bool // it must be gone
}

// ledger is what the vault must hold.
type ledger struct {
	captures map[replication.PointID]*capture
	order    []replication.PointID
	acks     int
}

func newLedger() ledger { return ledger{captures: map[replication.PointID]*capture{}} }

// newLedgerAfter is the ledger of a vault that was made anew.
func newLedgerAfter(l ledger) ledger {
	for _, c := range l.captures {
		c.going, c.gone = true, true
	}
	return l
}

func (l *ledger) capture(c *capture) {
	l.captures[c.id] = c
	l.order = append(l.order, c.id)
}

func (l *ledger) acknowledged(id replication.PointID) {
	l.captures[id].acked = true
	l.acks++
}

// listed are the points that the vault has of both disks, oldest first.
func (w *world) listed() []replication.RecoveryPoint {
	points, err := w.target.vault.Points(disks[0].ID)
	if err != nil {
		return nil
	}
	others, err := w.target.vault.Points(disks[1].ID)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(points, func(p replication.RecoveryPoint) bool {
		return !slices.ContainsFunc(others, func(o replication.RecoveryPoint) bool { return o.ID == p.ID })
	})
}

// compare looks at every point of the vault.
func (w *world) compare() { w.compareSome(func(int) bool { return true }) }

// compareSome looks at those points of the vault, counted from the oldest one, that are
// chosen; that none came back and none is lost is asked of all.
func (w *world) compareSome(chosen func(n int) bool) {
	v := w.target.vault
	for i, d := range disks {
		points, err := v.Points(d.ID)
		if err != nil {
			if len(w.points.order) > 0 && !w.flipped && w.mustHave() {
				w.violation("points of %s: %w", d.ID, err)
			}
			continue
		}
		there := map[replication.PointID]bool{}
		for n, p := range points {
			there[p.ID] = true
			c := w.points.captures[p.ID]
			if c == nil {
				w.violation("point %s of disk %s was never sent", p.ID, d.ID)
				return
			}
			if c.gone && !w.lied {
				w.violation("point %s of disk %s came back", p.ID, d.ID)
				return
			}
			if !chosen(n) {
				continue
			}
			if w.fired["points compared"]++; !w.shows(d.ID, p.ID, c.content[i]) {
				return
			}
		}
		for _, id := range w.points.order {
			if c := w.points.captures[id]; c.acked && !c.going && !there[id] && !w.missed(d.ID, c, points) {
				w.violation("LOST: point %s of disk %s was acknowledged and is not there", id, d.ID)
				return
			}
		}
	}
}

// missed judges a point that is not there any more. After the storage lied that may be, if
// it shows: the log of the disk ends before the point, so that the next sender finds a
// point that it does not know and compares all, or damage is told.
func (w *world) missed(id replication.DiskID, c *capture, there []replication.RecoveryPoint) bool {
	if !w.flipped {
		return false
	}
	c.going = true // judged once: it was the loss of one moment
	w.fired["points gone that a lie took"]++
	if n := len(there); n == 0 || slices.Index(w.points.order, there[n-1].ID) < slices.Index(w.points.order, c.id) {
		return true
	}
	return w.told()
}

// told reports whether a verification finds damage.
func (w *world) told() bool {
	report, err := w.target.vault.Verify(w.ctx, vault.VerifyOptions{})
	return err != nil || slices.ContainsFunc(report.Damage, func(d vault.Damage) bool { return !d.Harmless })
}

// honest judges an error in the place of a point's bytes. After the storage lied, it is an
// answer, if a verification says no less.
func (w *world) honest(err error) bool {
	if !w.flipped {
		return false
	}
	if replication.AsProblem(err).Code != vault.CodeDamaged || w.told() {
		w.fired["points refused after a lie"]++
		return true
	}
	w.violation("SILENT: %w, and a verification finds no damage", err)
	return false
}

func (w *world) mustHave() bool {
	for _, c := range w.points.captures {
		if c.acked && !c.going {
			return true
		}
	}
	return false
}

// shows compares a point of the vault with what it must be. After the storage lied an
// error is an honest answer; other bytes never are.
func (w *world) shows(id replication.DiskID, point replication.PointID, want []byte) bool {
	view, err := w.target.vault.View(w.ctx, id, point)
	if err != nil {
		honest := w.honest(err)
		if !honest {
			w.violation("view of point %q of disk %s: %w", point, id, err)
		}
		return honest
	}
	defer view.Close()
	w.room = slices.Grow(w.room[:0], int(view.Size()))
	got := w.room[:view.Size()]
	if err := replication.ReadFull(view, got, 0); err != nil {
		honest := w.honest(err)
		if !honest {
			w.violation("read point %q of disk %s: %w", point, id, err)
		}
		return honest
	}
	if !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		w.violation("MIXTURE: point %q of disk %s differs from its instant at byte %d", point, id, at)
		return false
	}
	return true
}

// keep are the rules of retention, for a world that lives for seconds.
var keep = replication.Retention{{Until: 2 * time.Second}, {Until: 8 * time.Second, Every: time.Second}}

// prune drops what the rules let go.
func (w *world) prune() {
	w.after(w.between(300, 1200), "retention", w.prune)
	if w.target.vault == nil || w.change != nil {
		return
	}
	listed := w.listed()
	if len(listed) == 0 {
		return
	}
	// The newest by the clock need not be the newest: the vault keeps the latter.
	newest := listed[len(listed)-1].ID
	gone := slices.DeleteFunc(keep.Drop(listed, w.clock()), func(id replication.PointID) bool { return id == newest })
	if len(gone) == 0 {
		return
	}
	if len(listed) == len(gone) {
		w.violation("retention lets all %d points go", len(gone))
		return
	}
	w.note("drop %d of %d points", len(gone), len(listed))
	for _, id := range gone {
		w.points.captures[id].going = true
	}
	for _, d := range disks {
		if err := w.target.vault.Drop(w.ctx, d.ID, gone); err != nil {
			w.note("drop: %v", err)
			w.target.damaged = true
			return
		}
	}
	for _, id := range gone {
		w.points.captures[id].gone = true
	}
}

// look compares now and then, not only after a start: each point every fourth time. That
// is most of what a world costs, so that more of them live in an hour.
func (w *world) look() {
	w.after(w.between(1000, 3000), "look at the points", w.look)
	if w.target.vault != nil && !w.target.disk.PowerIsCut() {
		w.looks++
		w.compareSome(func(n int) bool { return n%4 == w.looks%4 })
	}
}

// arrived is the end: the newest point is the disk of the machine.
func (w *world) arrived() {
	if w.target.vault == nil {
		w.violation("the target is down long after the last fault")
		return
	}
	w.compare()
	h := w.hosts[w.owner]
	listed := w.listed()
	if len(listed) == 0 {
		w.violation("LATE: no point is there %d ms after the last write", w.now-writingEnds)
		return
	}
	newest := listed[len(listed)-1].ID
	for i, d := range disks {
		if !bytes.Equal(w.points.captures[newest].content[i], h.content[i]) {
			w.violation("LATE: the newest point %s is not the disk %s of host %d %d ms after the last write", newest, d.ID, h.number, w.now-writingEnds)
			return
		}
		tolerant := w.flipped
		w.flipped = false // what was sent since is whole
		w.shows(d.ID, newest, h.content[i])
		w.shows(d.ID, "", h.content[i])
		w.flipped = tolerant
	}
}
