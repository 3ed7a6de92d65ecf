package sim

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"riparo/replication"
	"riparo/replication/keyring"
	"riparo/replication/vault"
	"riparo/replication/vfs"
)

// target is the master target: a vault on a disk that fails.
type target struct {
	w        *world
	disk     *vfs.Sim
	vault    *vault.Vault // nil while it is down
	life     uint64       // counts its starts
	sessions [2]session   // newest connection of each host in this life
	slow     int64        // how long it takes before it looks at a frame, milliseconds
	damaged  bool         // the storage failed; the vault has to be opened again

	remounted bool   // read-only, and the vault has not met it
	betrayed  [2]int // writes of this disk that were lost, and that went elsewhere, so far

	mu       sync.Mutex // guards below
	answered []frame
}

// session is a connection as the target sees it. The calls of one end before the first
// call of the next one is heard: a write that still waits for its predecessors would
// otherwise be taken for one of the next sender's.
type session struct {
	number uint64
	ctx    context.Context
	cancel context.CancelFunc
}

func (t *target) connect(host byte, number uint64) {
	t.sessions[host].end()
	ctx, cancel := context.WithCancel(t.w.ctx)
	t.sessions[host] = session{number, ctx, cancel}
}

func (s *session) end() {
	if s.cancel != nil {
		s.cancel()
	}
}

func newTarget(w *world) *target { return &target{w: w, disk: vfs.NewSim(w.seed)} }

// ring has the master key of all worlds. What it encrypts follows from no seed, but how
// long that is does.
var ring = sync.OnceValue(func() *keyring.Ring {
	r, err := keyring.New(time.UnixMilli(1_800_000_000_000))
	if err != nil {
		panic(err) // without randomness nothing can be tested
	}
	return r
})

// options of the vault: one world in four does without encryption.
func (t *target) options() vault.Options {
	o := vault.Options{Create: true, Clock: t.w.clock, Keys: ring(), Compression: vault.LZ4}
	if t.w.seed%3 == 0 {
		o.Compression = vault.S2 // zstd has channels that cannot leave the bubble of a world
	}
	if t.w.seed%4 == 0 {
		o.Keys, o.Plain = nil, true
	}
	return o.Manual(48<<10, 24)
}

// boot starts the target. The power may go while the vault recovers.
func (t *target) boot() {
	for {
		if t.w.chance(250) {
			t.disk.CutPower(t.w.random.IntN(25))
		}
		v, err := vault.Open(t.w.ctx, t.disk, "v", t.options())
		t.tally()
		if t.disk.PowerIsCut() {
			t.onto(t.disk.Restart())
			t.w.fault("power cut in recovery")
			continue
		}
		if err != nil {
			if t.met(err) {
				t.w.after(50, "the target starts, perhaps on a disk that takes changes", t.boot)
				return
			}
			switch replication.AsProblem(err).Code {
			case vault.CodeBroken:
				t.w.fault("fsync failed")
				continue
			case vault.CodeFull:
				t.w.after(50, "the target starts, perhaps with room", t.boot)
				return
			}
			if t.w.flipped {
				// The damage is told, not hidden. A person begins anew.
				t.w.note("the vault does not open")
				t.onto(vfs.NewSim(t.w.seed + 1))
				t.w.points = newLedgerAfter(t.w.points)
				continue
			}
			t.w.violation("open the vault: %w", err)
			return
		}
		if why := sick(v); why != nil {
			// One of its disks was not opened, because the storage failed just then.
			if err := v.Close(); err != nil {
				t.w.note("closed after a failure of the storage")
			}
			if t.met(why) {
				t.w.after(50, "the target starts, perhaps on a disk that takes changes", t.boot)
				return
			}
			if replication.AsProblem(why).Code == vault.CodeFull {
				t.w.after(50, "the target starts, perhaps with room", t.boot)
				return
			}
			t.w.fault("fsync failed")
			continue
		}
		t.vault = v
		break
	}
	t.disk.CutPower(1 << 30)
	t.damaged = false
	t.life++
	t.sessions = [2]session{}
	t.w.note("the target is up, life %d", t.life)
	t.w.compare()
}

// sick tells why a disk of the vault was not opened, if the storage is the reason.
func sick(v *vault.Vault) error {
	for _, d := range disks {
		if _, err := v.State(d.ID); err != nil {
			if code := replication.AsProblem(err).Code; code == vault.CodeBroken || code == vault.CodeFull || errors.Is(err, vfs.ErrReadOnly) {
				return err
			}
		}
	}
	return nil
}

// met reports whether an error is that of a file system that takes no changes, and counts
// each such time once.
func (t *target) met(err error) bool {
	if !errors.Is(err, vfs.ErrReadOnly) {
		return false
	}
	if t.remounted {
		t.remounted = false
		t.w.fault("read-only remount")
	}
	return true
}

// tally counts the writes that an fsync promised in vain.
func (t *target) tally() {
	lost, elsewhere := t.disk.Betrayed()
	for range lost - t.betrayed[0] {
		t.w.fault("write lost")
	}
	for range elsewhere - t.betrayed[1] {
		t.w.fault("write misdirected")
	}
	t.betrayed = [2]int{lost, elsewhere}
}

// onto gives the target another disk, or the same one as it is found later.
func (t *target) onto(disk *vfs.Sim) {
	t.tally()
	t.disk, t.betrayed = disk, [2]int{}
}

// down ends the target without telling it.
func (t *target) down() {
	if t.vault == nil {
		return
	}
	t.vault = nil
	for i := range t.sessions {
		t.sessions[i].end()
	}
	t.mu.Lock()
	t.answered = nil
	t.mu.Unlock()
}

// crash is the end of the process, and of the power when it was cut.
func (t *target) crash(power bool) {
	if t.vault == nil {
		return
	}
	before := t.disk
	t.down()
	if power {
		t.onto(before.Restart())
	} else {
		t.onto(before.Clone())
		before.CutPower(0)
	}
	t.damaged = false
	t.w.after(t.w.between(20, 600), "the target starts", t.boot)
}

// reopen is what an operator, or the daemon, does when the storage failed.
func (t *target) reopen() {
	v := t.vault
	t.down()
	t.damaged = false
	if err := v.Close(); err != nil {
		t.w.note("closed after a failure of the storage")
	}
	if t.w.random.IntN(2) == 0 && !t.disk.PowerIsCut() {
		t.disk.Evict()
	}
	if t.disk.PowerIsCut() {
		t.onto(t.disk.Restart())
		t.w.fault("power cut")
	}
	t.boot()
}

// receive takes a frame off the link.
func (t *target) receive(p []byte) {
	f, ok := parseFrame(p)
	if !ok {
		t.w.fault("corrupted frame refused")
		return
	}
	if t.vault == nil {
		return
	}
	if t.slow > 0 {
		t.w.fault("slow disk")
		life := t.life
		t.w.after(t.w.random.Int64N(t.slow), "the slow disk is ready", func() {
			if t.vault != nil && t.life == life {
				t.serve(f)
			}
		})
		return
	}
	t.serve(f)
}

// serve lets a goroutine do what a frame asks for.
func (t *target) serve(f *frame) {
	if f.verb == hello {
		if f.session < t.sessions[f.host].number {
			return
		}
		if f.session > t.sessions[f.host].number {
			t.connect(f.host, f.session)
		}
	} else if f.session != t.sessions[f.host].number || f.life != t.life {
		t.w.fired["frame of an old connection"]++
		t.reply(frame{verb: answer, host: f.host, session: f.session, call: f.call, outcome: reset})
		return
	}
	v, ctx, life := t.vault, t.sessions[f.host].ctx, t.life
	go func() {
		a := handle(ctx, v, f)
		a.verb, a.host, a.session, a.call, a.life = answer, f.host, f.session, f.call, life
		t.mu.Lock()
		defer t.mu.Unlock()
		if ctx.Err() == nil {
			t.answered = append(t.answered, a)
		}
	}()
}

// handle does with the vault what a frame asks for.
func handle(ctx context.Context, v *vault.Vault, f *frame) (a frame) {
	var err error
	switch f.verb {
	case prepare:
		a.state, err = v.Prepare(ctx, f.disk, f.epoch)
	case write:
		err = v.Write(ctx, f.batch)
	case mark:
		err = v.Mark(ctx, f.mark)
	case hashes:
		a.sums, err = v.Hashes(ctx, f.disk.ID, f.ask, f.chunk)
	}
	switch {
	case errors.Is(err, replication.ErrStaleEpoch):
		a.outcome = stale
	case err != nil:
		a.outcome = refused
	}
	return a
}

// collect sends the answers that are ready, and looks after the storage.
func (t *target) collect() bool {
	t.mu.Lock()
	answered := t.answered
	t.answered = nil
	t.mu.Unlock()
	slices.SortFunc(answered, func(a, b frame) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.session, b.session), cmp.Compare(a.call, b.call), cmp.Compare(a.outcome, b.outcome))
	})
	t.tally()
	if t.vault != nil && t.disk.PowerIsCut() {
		t.w.fault("power cut")
		t.crash(true)
		return false
	}
	for _, a := range answered {
		t.reply(a)
		if a.outcome == refused {
			t.damaged = true
		}
	}
	if t.damaged && t.vault != nil && t.broken() {
		t.w.fault("vault opened again")
		t.reopen()
	}
	if t.vault == nil {
		return false
	}
	return len(answered) > 0
}

// broken reports whether a disk of the vault takes nothing more until it is opened
// again.
func (t *target) broken() bool {
	t.damaged = false
	for _, d := range disks {
		state, err := t.vault.State(d.ID)
		if err != nil {
			// Opened once more when there was room, and the storage failed at that.
			if t.met(err) || replication.AsProblem(err).Code == vault.CodeBroken {
				return true
			}
			continue
		}
		// Preparing what is prepared changes nothing, and tells.
		_, err = t.vault.Prepare(t.w.ctx, state.Disk, state.Epoch)
		if err == nil {
			continue
		}
		t.met(err)
		// A disk that was opened without room for what a crash left takes nothing until
		// it is opened with room.
		if code := replication.AsProblem(err).Code; code == vault.CodeBroken || code == vault.CodeFull {
			return true
		}
	}
	return false
}

func (t *target) reply(a frame) {
	if a.life == 0 {
		a.life = t.life
	}
	h := t.w.hosts[a.host]
	t.w.send(1, a.bytes(), func(p []byte) {
		f, ok := parseFrame(p)
		if !ok {
			t.w.fault("corrupted frame refused")
			return
		}
		if h.transfer != nil && h.transfer.conn.session == f.session {
			h.transfer.conn.receive(f)
		}
	})
}

// maintain does what the vault otherwise does in the background.
func (t *target) maintain() {
	t.w.after(t.w.between(60, 700), "maintenance", t.maintain)
	if t.vault == nil {
		return
	}
	if err := t.vault.Maintain(t.w.ctx); err != nil {
		t.damaged = true
	}
}
