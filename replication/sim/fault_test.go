package sim

import (
	"strings"

	"riparo/replication/vault"
	"riparo/replication/vfs"
)

// kinds are all that can go wrong here. Each has to happen often enough in a run of many
// seeds; otherwise the run proves nothing about it.
var kinds = []string{
	"lost frame", "duplicated frame", "corrupted frame", "corrupted frame refused", "delayed frame", "reordered frame",
	"partitioned frame", "frame of an old connection",
	"power cut", "power cut in recovery", "target killed", "process server killed", "host crashed",
	"tracking lost", "source read error", "fsync failed", "vault opened again", "disk full", "read-only remount", "slow disk", "clock jumped",
	"bit flipped", "write lost", "write misdirected",
	"unplanned failover", "planned failover", "deposed owner refused",
}

// scheduleFaults lets each kind come again and again until the faults end.
func (w *world) scheduleFaults() {
	again := func(a, b int64, what string, do func()) {
		var next func()
		next = func() {
			if w.quiet() {
				return
			}
			do()
			w.after(w.between(a, b), what, next)
		}
		w.after(w.between(a/4, b), what, next)
	}
	t := w.target
	again(400, 2500, "the power will go", func() { t.disk.CutPower(w.random.IntN(40)) })
	again(2000, 9000, "the target is killed", func() {
		if t.vault != nil {
			w.fault("target killed")
			t.crash(false)
		}
	})
	again(1500, 6000, "an fsync will fail", func() { t.disk.FailSync(w.random.IntN(8)) })
	again(1500, 6000, "the disk is nearly full", w.fill)
	again(3000, 12000, "the file system is to be mounted read-only", func() {
		t.disk.SetReadOnly(w.random.IntN(12))
		t.remounted = true
		w.after(w.between(50, 600), "the file system is mounted for writing", func() { t.disk.SetReadOnly(-1) })
	})
	again(1500, 7000, "the disk is slow", func() {
		t.slow = 1 + w.random.Int64N(300)
		w.after(w.between(100, 500), "the disk is quick again", func() { t.slow = 0 })
	})
	again(1000, 5000, "the clock jumps", func() {
		w.fault("clock jumped")
		w.wall += w.between(-3_600_000, 3_600_000)
	})
	again(1000, 6000, "a partition", func() {
		w.link.partitioned = true
		w.after(w.between(50, 900), "the partition ends", func() { w.link.partitioned = false })
	})
	for _, h := range w.hosts {
		again(1500, 7000, "the process server is killed", func() {
			if h.transfer != nil {
				w.fault("process server killed")
				h.stopTransfer()
			}
		})
		again(3000, 12000, "the host crashes", func() {
			w.fault("host crashed")
			h.crash()
		})
		again(2000, 9000, "tracking is lost", func() {
			w.fault("tracking lost")
			h.tracked = false
		})
	}
	switch w.random.IntN(10) { // only in some worlds: in the others nothing excuses an error
	case 0:
		again(3000, 6000, "a bit flips", w.flip)
	case 1:
		again(1500, 6000, "an fsync will lie", w.lie)
	}
	w.after(w.between(50, 400), "maintenance", t.maintain)
	w.after(1000, "retention", w.prune)
	w.after(1500, "look at all points", w.look)
	w.after(w.between(1000, 6000), "a failover is wanted", w.failOver)
	w.after(w.between(1000, 6000), "a planned failover is wanted", w.leave)
}

// fill leaves little room on the disk for a while.
func (w *world) fill() {
	space, err := w.target.disk.Space("v")
	if err != nil {
		return
	}
	w.fault("disk full")
	w.target.disk.SetCapacity(space.Total - space.Free + w.random.Int64N(20_000))
	w.after(w.between(50, 500), "there is room again", func() { w.target.disk.SetCapacity(0) })
}

// flip changes a bit of a file of the vault.
func (w *world) flip() {
	names, sizes := w.target.disk.Files()
	if len(names) == 0 {
		return
	}
	i := w.random.IntN(len(names))
	if sizes[i] == 0 || strings.HasSuffix(names[i], "lock") {
		return
	}
	w.fault("bit flipped")
	w.flipped = true
	if err := w.target.disk.FlipBit(names[i], w.random.Int64N(8*sizes[i])); err != nil {
		w.violation("flip a bit: %w", err)
	}
}

// lie lets an fsync promise a write that is lost, or that goes elsewhere.
func (w *world) lie() {
	w.flipped, w.lied = true, true
	if w.random.IntN(2) == 0 {
		w.target.disk.LoseWrite(w.random.IntN(8))
	} else {
		w.target.disk.MisdirectWrite(w.random.IntN(8))
	}
}

// calm ends all faults, and heals what bits flipped have damaged.
func (w *world) calm() {
	t := w.target
	w.link.partitioned, t.slow = false, 0
	t.disk.SetCapacity(0)
	t.disk.SetReadOnly(-1)
	t.disk.FailSync(1 << 30)
	t.disk.LoseWrite(1 << 30)
	t.disk.MisdirectWrite(1 << 30)
	if !t.disk.PowerIsCut() {
		t.disk.CutPower(1 << 30)
	}
	for _, h := range w.hosts {
		h.leaving = false
	}
	if w.flipped {
		w.after(3000, "the vault is healed", w.heal)
	}
}

// heal mends the vault from the machine, or makes it anew where it cannot be mended.
func (w *world) heal() { w.healing(false) }

func (w *world) healing(again bool) {
	h, t := w.hosts[w.owner], w.target
	if t.vault == nil || h.transfer != nil || !h.up || !h.running || w.change != nil {
		w.after(37, "the vault is healed", func() { w.healing(again) })
		return
	}
	t.disk.Evict() // what an fsync promised is as it is on the medium
	t.crash(false) // damage to what is derived is mended by opening, where that looks
	w.after(1000, "the vault is healed, after a start", func() {
		whole, derived := true, false
		for i, d := range disks {
			state, err := t.vault.State(d.ID)
			if err != nil || state.Disk.Size != d.Size {
				whole = false
				continue
			}
			source := &frozen{bytes: h.content[i], regions: everything(h.content[i])}
			_, _, err = t.vault.Heal(w.ctx, d.ID, source)
			if err == nil {
				var report vault.VerifyReport
				report, err = t.vault.Verify(w.ctx, vault.VerifyOptions{})
				derived = derived || len(report.Damage) > 0
			}
			whole = whole && err == nil
		}
		h.tracked = false // compare all
		if whole {
			if derived && !again {
				t.crash(false) // what was found in a map, too
				// Without maps more is doubted; an appliance heals with each cycle.
				w.after(1500, "the vault is healed once more", func() { w.healing(true) })
			}
			return
		}
		w.note("the vault is made anew")
		h.stopTransfer()
		t.down()
		t.onto(vfs.NewSim(w.seed + 3))
		w.points = newLedgerAfter(w.points)
		t.boot()
	})
}
