package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// The time that locks are measured by is not that of the clock: who sets the clock
// forward must not free a point, and who sets it back must not lose what was known.
//
// While the vault is open, trusted time passes as the machine's uptime does, whatever
// becomes of the clock. It is saved, and never goes back. When the vault is opened,
// the clock may be ahead of what was saved, for time has passed meanwhile: so much is
// believed as is left of clockCredit, and what is believed is earned back slowly by time
// that passes while the vault is open. The same is believed while it is open, for a computer
// may sleep, and start with a clock that is late. More needs a person: [Vault.ConfirmClock]. Until
// then locks last longer than they were meant to, which is the safe side.
//
// Ages of points are measured by it too, so it is saved now and then although nothing is
// locked: a computer that starts with a clock that is a month ahead loses no point to
// retention.
const (
	clockName   = "clock"
	clockMagic  = "RIPAROCK"
	clockSize   = 40
	clockCredit = 24 * time.Hour // a night without power needs no person
	// clockFree is the credit at an opening while nothing was ever locked: a long weekend
	// without power makes points older by so much, and by no more.
	clockFree = 4 * 24 * time.Hour
	// clockEarn is how much time has to pass for one of what was believed, once something
	// was locked: who sets the clock forward at every restart gains this part of the time,
	// and one credit. A computer that is off every night needs a person then.
	clockEarn = 24
	// clockSave: after a crash, so much less is known at most.
	clockSave = time.Hour
	// clockDrift is how far the clock may be ahead before somebody is told: clocks are
	// off by less, and so is a computer that slept for a moment.
	clockDrift = 10 * time.Minute
)

// trustedClock keeps the trusted time of a vault.
type trustedClock struct {
	vault  *Vault
	uptime func() time.Duration // since the vault was opened; does not know the clock

	saving sync.Mutex // held while the file is written; before mu

	mu    sync.Mutex    // guards all below
	base  time.Time     // trusted time when the vault was opened
	lent  time.Duration // what was believed and not earned back when it was believed last
	since time.Duration // uptime then
	saved time.Time     // zero: never
	locks bool          // something was locked once
}

// ClockState is what a vault knows about the time.
type ClockState struct {
	Trusted time.Time // what locks are measured by
	// Ahead is how much the clock is ahead of it and not believed; 0 when that is next
	// to nothing.
	Ahead time.Duration
}

// TrustedTime is the time that locks and ages are measured by. It never goes back, and
// without a person's word, once something was locked, it runs ahead of the real time by no
// more than a day and an hour for each further day, whatever becomes of the clock.
func (v *Vault) TrustedTime() time.Time {
	v.clock.mu.Lock()
	defer v.clock.mu.Unlock()
	return v.clock.now()
}

// KeepTime saves the trusted time if it was not for long: where nothing is dropped or locked,
// nobody else does. Whoever keeps a vault open calls it now and then.
func (v *Vault) KeepTime() error {
	v.mu.RLock()
	closed := v.closed
	v.mu.RUnlock()
	if closed {
		return closedProblem(v.dir)
	}
	return v.clock.keep(false, false)
}

// ClockState tells whether somebody should look at the clock.
func (v *Vault) ClockState() ClockState {
	wall := v.wall()
	v.clock.mu.Lock()
	defer v.clock.mu.Unlock()
	if ahead := wall.Sub(v.clock.now().Round(0)); ahead > clockDrift {
		v.clock.believe(ahead, clockCredit)
	}
	state := ClockState{Trusted: v.clock.now()}
	if ahead := wall.Sub(state.Trusted.Round(0)); ahead > clockDrift {
		state.Ahead = ahead
	}
	return state
}

// wall is what the clock says, without the uptime that Go's times carry along: that is
// not set forward with it.
func (v *Vault) wall() time.Time { return v.now().Round(0) }

// ConfirmClock makes the clock, as it is now, the trusted time: a person says that the
// vault was really closed for so long. Whoever calls it sees to it that one person
// alone cannot.
func (v *Vault) ConfirmClock(ctx context.Context) error {
	if err := v.writable(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c := &v.clock
	c.mu.Lock()
	wall := v.wall()
	if wall.Before(c.now().Round(0)) {
		c.mu.Unlock()
		return &replication.Problem{
			Code:   "vault.clock",
			Cause:  fmt.Sprintf("the clock says %s, and the vault knows that it is at least %s", wall.UTC().Format(time.RFC3339), c.now().UTC().Format(time.RFC3339)),
			Effect: "nothing was changed", Action: "set the clock right", Remedy: replication.Stop,
		}
	}
	before := c.base
	c.base = wall.Add(-c.uptime())
	now := c.now()
	c.mu.Unlock()
	if err := c.save(now, true); err != nil {
		c.mu.Lock()
		c.base = before
		c.mu.Unlock()
		return fmt.Errorf("confirm the clock: %w", err)
	}
	return nil
}

// now is the trusted time. The caller holds mu.
func (c *trustedClock) now() time.Time { return c.base.Add(c.uptime()) }

// begin finds out the trusted time at an opening, after the disks are open.
func (c *trustedClock) begin() error {
	v := c.vault
	if c.uptime = v.options.uptime; c.uptime == nil {
		start := time.Now()
		c.uptime = func() time.Duration { return time.Since(start) } // monotonic
	}
	known, lent := int64(0), clockCredit
	p, err := v.readFile(filepath.Join(v.dir, clockName), clockSize)
	if vfs.Short(err) {
		return fmt.Errorf("read the time of vault %s: %w", v.dir, err) // else the next save would forget it
	}
	if at, owed, ok := parseClock(p, v.id); err == nil && ok {
		known, lent = at, owed
	}
	locked := false
	for _, d := range v.list() {
		known = max(known, d.lockedAt)
		locked = locked || d.lockedAt > 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locks = locked
	wall := v.wall().Add(-c.uptime())
	if known == 0 && !locked && errors.Is(err, fs.ErrNotExist) {
		c.base = wall // nothing was ever saved
		return nil
	}
	c.base, c.lent = time.Unix(0, known).UTC(), lent
	c.saved = c.base
	credit := clockFree
	if locked {
		credit = clockCredit
	}
	c.believe(wall.Sub(c.base), credit)
	return nil
}

// believe takes what the clock is ahead for time that has passed, if so much credit is left.
// The caller holds mu.
func (c *trustedClock) believe(ahead, credit time.Duration) {
	owed := c.owed()
	if ahead > 0 && ahead <= credit-owed {
		c.base, c.lent, c.since = c.base.Add(ahead), owed+ahead, c.uptime()
	}
}

// owed is what was believed and not earned back. The caller holds mu.
func (c *trustedClock) owed() time.Duration {
	earned := 2 * (c.uptime() - c.since) // a computer may run in working hours only
	if c.locks {
		earned = (c.uptime() - c.since) / clockEarn
	}
	return max(0, c.lent-earned)
}

// save makes a time durable: after any restart it is not earlier. It may take from the
// reserve of the vault.
func (c *trustedClock) save(now time.Time, reserve bool) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	lent, known := c.owed(), c.saved.After(now)
	c.mu.Unlock()
	if known {
		return nil // somebody else was quicker, and later
	}
	p := make([]byte, clockSize)
	copy(p, clockMagic)
	le := binary.LittleEndian
	le.PutUint32(p[8:], sealedVersion)
	le.PutUint32(p[12:], checksum(c.vault.id[:]))
	le.PutUint64(p[16:], uint64(now.UnixNano()))
	le.PutUint64(p[24:], uint64(lent))
	le.PutUint32(p[clockSize-4:], checksum(p[:clockSize-4]))
	err := c.vault.replaceFile(c.vault.dir, clockName, p)
	if err != nil && reserve && c.vault.spend(err) {
		err = c.vault.replaceFile(c.vault.dir, clockName, p) // a lock is as small as a mark
	}
	if err != nil {
		return fmt.Errorf("save the time of vault %s: %w", c.vault.dir, err)
	}
	c.mu.Lock()
	c.saved = now
	c.mu.Unlock()
	return nil
}

// locked notes that something is locked.
func (c *trustedClock) locked() {
	c.mu.Lock()
	c.locks = true
	c.mu.Unlock()
}

// keep saves the time when it was not for clockSave, or in any case at the end of a vault
// with locks.
func (c *trustedClock) keep(end, reserve bool) error {
	c.mu.Lock()
	now, last := c.now(), c.saved
	if last.IsZero() {
		last = c.base
	}
	passed := now.Sub(last)
	due := passed > clockSave || end && c.locks && passed > 0
	c.mu.Unlock()
	if !due || c.vault.options.ReadOnly {
		return nil
	}
	return c.save(now, reserve)
}

func parseClock(p []byte, id vaultID) (at int64, lent time.Duration, ok bool) {
	le := binary.LittleEndian
	if len(p) != clockSize || string(p[:8]) != clockMagic || le.Uint32(p[8:]) != sealedVersion ||
		le.Uint32(p[12:]) != checksum(id[:]) || checksum(p[:clockSize-4]) != le.Uint32(p[clockSize-4:]) {
		return 0, 0, false
	}
	at, lent = int64(le.Uint64(p[16:])), time.Duration(le.Uint64(p[24:]))
	return at, lent, at > 0 && lent >= 0 && lent <= clockFree+clockCredit
}
