package vault

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// lockedTime is a clock that can be set and an uptime that cannot.
type lockedTime struct {
	wall   time.Time
	uptime time.Duration
}

func (c *lockedTime) pass(d time.Duration) { c.wall, c.uptime = c.wall.Add(d), c.uptime+d }

func (c *lockedTime) options() Options {
	return Options{
		manual: true, Clock: func() time.Time { return c.wall },
		uptime: func() time.Duration { return c.uptime },
	}
}

// boot opens the vault anew: uptime begins again.
func (c *lockedTime) boot(t *testing.T, dir string, v *Vault) *Vault {
	t.Helper()
	if v != nil {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c.uptime = 0
	return open(t, vfs.OS(), dir, c.options())
}

func newLockedTime() *lockedTime {
	return &lockedTime{wall: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}
}

func TestALockedPointStaysForEverybody(t *testing.T) {
	c := newLockedTime()
	dir := t.TempDir()
	v := c.boot(t, dir, nil)
	s := newSender(t, v, "d", 5000)
	for i := range int64(4) {
		s.write(change(i*1000, 500, byte(i)))
		s.mark()
	}
	until := c.wall.Add(48 * time.Hour)
	id := s.points[1].id
	if err := v.Lock(t.Context(), "d", []replication.PointID{id}, until); err != nil {
		t.Fatal(err)
	}
	if err := v.Lock(t.Context(), "d", []replication.PointID{id}, until.Add(-time.Second)); !hasCode(err, CodeImmutable) {
		t.Errorf("a shorter lock: %v, want %s", err, CodeImmutable)
	}
	if err := v.Lock(t.Context(), "d", []replication.PointID{id}, until.Add(time.Hour)); err != nil {
		t.Errorf("a longer lock: %v", err)
	}
	if err := v.Lock(t.Context(), "d", []replication.PointID{"none"}, until); !errors.Is(err, replication.ErrUnknownPoint) {
		t.Errorf("a point that is not there: %v, want %v", err, replication.ErrUnknownPoint)
	}
	for range 2 { // the second time after a restart
		for what, err := range map[string]error{
			"drop":   v.Drop(t.Context(), "d", []replication.PointID{s.points[0].id, id}),
			"rewind": v.Rewind(t.Context(), "d", s.points[0].id, 2),
			"erase":  v.Erase(t.Context(), "d"),
		} {
			if !hasCode(err, CodeImmutable) {
				t.Errorf("%s: %v, want %s", what, err, CodeImmutable)
			}
		}
		s.check()
		v = c.boot(t, dir, v)
		s.vault = v
	}
	points, err := v.Points("d")
	if err != nil {
		t.Fatal(err)
	}
	if p := points[1]; !p.Locked || !p.LockedUntil.Equal(until.Add(time.Hour)) || points[0].Locked {
		t.Errorf("points %+v: want only the second one locked, until %s", points, until.Add(time.Hour))
	}
	slices.Reverse(points)
	if drop := (replication.Retention{{Until: time.Second}}).Drop(points, c.wall.AddDate(1, 0, 0)); len(drop) != 2 {
		t.Errorf("retention drops %v: want the two that are neither the newest nor locked", drop)
	}
	c.pass(48*time.Hour + 59*time.Minute)
	if err := v.Drop(t.Context(), "d", []replication.PointID{id}); !hasCode(err, CodeImmutable) {
		t.Errorf("a minute before its end: %v, want %s", err, CodeImmutable)
	}
	c.pass(time.Minute)
	s.drop(id)
	s.check()
}

func TestAPinnedPointStaysUntilItIsUnpinned(t *testing.T) {
	dir := t.TempDir()
	v := open(t, vfs.OS(), dir, Options{manual: true})
	s := newSender(t, v, "d", 5000)
	for i := range int64(3) {
		s.write(change(i*1000, 500, byte(i)))
		s.mark()
	}
	id := s.points[1].id
	if err := v.Pin(t.Context(), "d", id); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, vfs.OS(), dir, Options{manual: true})
	s.vault = v
	if err := v.Drop(t.Context(), "d", []replication.PointID{id}); !hasCode(err, CodeImmutable) {
		t.Errorf("drop: %v, want %s", err, CodeImmutable)
	}
	if err := v.Rewind(t.Context(), "d", s.points[0].id, 2); !hasCode(err, CodeImmutable) {
		t.Errorf("rewind: %v, want %s", err, CodeImmutable)
	}
	if err := v.Unpin(t.Context(), "d", id); err != nil {
		t.Fatal(err)
	}
	s.drop(id)
	s.check()
}

// TestNoClockEndsALockEarly sets the clock in every way that somebody might try, and
// asks whether a point that is locked for ten days can be dropped.
func TestNoClockEndsALockEarly(t *testing.T) {
	const day = 24 * time.Hour
	for name, try := range map[string]func(t *testing.T, c *lockedTime, dir string, v *Vault) *Vault{
		"forward while it runs": func(_ *testing.T, c *lockedTime, _ string, v *Vault) *Vault {
			c.wall = c.wall.Add(100 * day)
			return v
		},
		"forward while it runs, then a restart": func(t *testing.T, c *lockedTime, dir string, v *Vault) *Vault {
			c.wall = c.wall.Add(100 * day)
			return c.boot(t, dir, v)
		},
		"forward while it is closed": func(t *testing.T, c *lockedTime, dir string, v *Vault) *Vault {
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			c.wall = c.wall.Add(100 * day)
			return c.boot(t, dir, nil)
		},
		"a little forward at each of many restarts": func(t *testing.T, c *lockedTime, dir string, v *Vault) *Vault {
			for range 40 {
				c.wall = c.wall.Add(20 * time.Hour)
				v = c.boot(t, dir, v)
				c.pass(time.Minute)
			}
			return v
		},
		"a day forward at each daily restart": func(t *testing.T, c *lockedTime, dir string, v *Vault) *Vault {
			for range 6 {
				c.wall = c.wall.Add(23 * time.Hour)
				v = c.boot(t, dir, v)
				c.pass(day)
			}
			return v
		},
		"forward, and what was saved is removed": func(t *testing.T, c *lockedTime, dir string, v *Vault) *Vault {
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			if err := vfs.OS().Remove(dir + "/" + clockName); err != nil {
				t.Fatal(err)
			}
			c.wall = c.wall.Add(100 * day)
			return c.boot(t, dir, nil)
		},
		"back, then to the right time": func(t *testing.T, c *lockedTime, dir string, v *Vault) *Vault {
			c.wall = c.wall.Add(-100 * day)
			v = c.boot(t, dir, v)
			c.pass(time.Hour)
			c.wall = c.wall.Add(100 * day)
			return c.boot(t, dir, v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newLockedTime()
			dir := t.TempDir()
			v := c.boot(t, dir, nil)
			s := newSender(t, v, "d", 5000)
			for i := range int64(3) {
				s.write(change(i*1000, 500, byte(i)))
				s.mark()
			}
			id := s.points[0].id
			if err := v.Lock(t.Context(), "d", []replication.PointID{id}, c.wall.Add(10*day)); err != nil {
				t.Fatal(err)
			}
			before := v.TrustedTime()
			v = try(t, c, dir, v)
			if err := v.Drop(t.Context(), "d", []replication.PointID{id}); !hasCode(err, CodeImmutable) {
				t.Errorf("%v, want %s; trusted time went from %s to %s", err, CodeImmutable, before, v.TrustedTime())
			}
			if v.TrustedTime().Before(before) {
				t.Errorf("trusted time went back from %s to %s", before, v.TrustedTime())
			}
		})
	}
}

func TestTimeThatPassedWhileTheVaultWasClosedCounts(t *testing.T) {
	const day = 24 * time.Hour
	c := newLockedTime()
	dir := t.TempDir()
	v := c.boot(t, dir, nil)
	s := newSender(t, v, "d", 5000)
	for i := range int64(3) {
		s.write(change(i*1000, 500, byte(i)))
		s.mark()
	}
	id := s.points[0].id
	if err := v.Lock(t.Context(), "d", []replication.PointID{id}, c.wall.Add(10*day)); err != nil {
		t.Fatal(err)
	}
	// A night without power is believed.
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	c.wall = c.wall.Add(8 * time.Hour)
	v = c.boot(t, dir, nil)
	if st := v.ClockState(); !st.Trusted.Equal(c.wall) || st.Ahead != 0 {
		t.Errorf("after a night: %+v, want %s and nothing to confirm", st, c.wall)
	}
	// Two weeks are not, until somebody says so.
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	c.wall = c.wall.Add(14 * day)
	v = c.boot(t, dir, nil)
	s.vault = v
	if st := v.ClockState(); st.Ahead != 14*day {
		t.Errorf("after two weeks: %+v, want 14 days ahead", st)
	}
	if err := v.Drop(t.Context(), "d", []replication.PointID{id}); !hasCode(err, CodeImmutable) {
		t.Errorf("before the clock is confirmed: %v, want %s", err, CodeImmutable)
	}
	if err := v.ConfirmClock(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = c.boot(t, dir, v) // and that stays
	s.vault = v
	if st := v.ClockState(); !st.Trusted.Equal(c.wall) || st.Ahead != 0 {
		t.Errorf("confirmed: %+v, want %s and nothing to confirm", st, c.wall)
	}
	s.drop(id)
	c.wall = c.wall.Add(-day)
	if err := v.ConfirmClock(t.Context()); !hasCode(err, "vault.clock") {
		t.Errorf("a clock that is behind: %v, want vault.clock", err)
	}
}

// TestAgesAreMeasuredByTheTrustedTime: a computer that starts with a clock that is ahead
// would lose all that it keeps to retention.
func TestAgesAreMeasuredByTheTrustedTime(t *testing.T) {
	const day = 24 * time.Hour
	c := newLockedTime()
	dir := t.TempDir()
	v := c.boot(t, dir, nil)
	s := newSender(t, v, "d", 5000)
	s.write(change(0, 500, 1))
	s.mark()
	c.pass(2 * time.Hour)
	before := v.TrustedTime()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	c.wall = c.wall.Add(20 * day)
	v = c.boot(t, dir, nil)
	if st := v.ClockState(); st.Trusted.Sub(before) > day || st.Ahead < 19*day {
		t.Errorf("the clock went 20 days ahead, nothing is locked: %+v, was %s", st, before)
	}
	// It is put right while the vault is open.
	c.wall = c.wall.Add(-20 * day)
	c.pass(time.Hour)
	if st := v.ClockState(); st.Ahead != 0 || st.Trusted.Before(before) {
		t.Errorf("put right: %+v", st)
	}
}

// TestNightsAndWeekendsWithoutPowerNeedNobodyWhileNothingIsLocked, nor does a computer that
// slept while the vault was open.
func TestNightsAndWeekendsWithoutPowerNeedNobodyWhileNothingIsLocked(t *testing.T) {
	c := newLockedTime()
	dir := t.TempDir()
	v := c.boot(t, dir, nil)
	s := newSender(t, v, "d", 5000)
	s.write(change(0, 500, 1))
	s.mark()
	off := func(d time.Duration) {
		t.Helper()
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		c.wall = c.wall.Add(d)
		v = c.boot(t, dir, nil)
		if st := v.ClockState(); st.Ahead != 0 || c.wall.Sub(st.Trusted) > clockDrift {
			t.Errorf("off for %s: %+v at %s, want nothing to confirm", d, st, c.wall)
		}
	}
	for range 3 {
		for range 4 {
			c.pass(14 * time.Hour)
			off(10 * time.Hour)
		}
		c.pass(14 * time.Hour)
		off(60 * time.Hour)
	}
	c.pass(72 * time.Hour)
	c.wall = c.wall.Add(8 * time.Hour) // it slept
	if st := v.ClockState(); st.Ahead != 0 || !st.Trusted.Equal(c.wall) {
		t.Errorf("it slept for 8 h: %+v at %s", st, c.wall)
	}
}

// TestAVaultThatWasOpenForLongBelievesOneDay: what was believed is earned back by time
// that passes afterwards.
func TestAVaultThatWasOpenForLongBelievesOneDay(t *testing.T) {
	c := newLockedTime()
	v := c.boot(t, t.TempDir(), nil)
	s := newSender(t, v, "d", 5000)
	s.write(change(0, 500, 1))
	s.mark()
	c.pass(90 * 24 * time.Hour)
	before := v.TrustedTime()
	const step = 20 * time.Hour
	for range 3 {
		c.wall = c.wall.Add(step)
		v.ClockState()
	}
	if gained := v.TrustedTime().Sub(before); gained != step {
		t.Errorf("of three steps of %s forward %s was believed, want one step", step, gained)
	}
	// The same, once what was believed is earned back.
	c.pass(step)
	c.wall = before.Round(0).Add(3 * step)
	if st := v.ClockState(); !st.Trusted.Equal(c.wall) {
		t.Errorf("after %s more: %+v, want %s", step, st, c.wall)
	}
}

// TestTheTimeIsSavedThoughNothingIsDropped: without, a computer that starts with a clock that is ahead after a power cut would be believed.
func TestTheTimeIsSavedThoughNothingIsDropped(t *testing.T) {
	c := newLockedTime()
	v := c.boot(t, t.TempDir(), nil)
	s := newSender(t, v, "d", 5000)
	s.write(change(0, 500, 1))
	s.mark()
	saved := func() bool {
		_, err := v.fs.Stat(filepath.Join(v.dir, clockName))
		return err == nil
	}
	if err := v.KeepTime(); err != nil {
		t.Fatal(err)
	}
	if saved() {
		t.Error("it is saved at once")
	}
	c.pass(clockSave + time.Second)
	if err := v.KeepTime(); err != nil {
		t.Fatal(err)
	}
	if !saved() {
		t.Error("an hour later it is not saved")
	}
}

// TestAClockThatJumpsIsToldOf: while the vault is open, from the jump until the clock is
// right again.
func TestAClockThatJumpsIsToldOf(t *testing.T) {
	const day = 24 * time.Hour
	c := newLockedTime()
	v := c.boot(t, t.TempDir(), nil)
	s := newSender(t, v, "d", 5000)
	s.write(change(0, 500, 1))
	s.mark()
	if err := v.Lock(t.Context(), "d", []replication.PointID{s.points[0].id}, c.wall.Add(10*day)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what  string
		jump  time.Duration
		ahead time.Duration
	}{
		{"no jump", 0, 0},
		{"a drift", clockDrift, 0},
		{"a jump", 3*day - clockDrift, 3 * day},
		{"a further one", time.Hour, 3*day + time.Hour},
		{"put right", -3*day - time.Hour, 0},
		{"behind", -day, 0},
	} {
		c.pass(time.Minute)
		c.wall = c.wall.Add(step.jump)
		if st := v.ClockState(); st.Ahead != step.ahead {
			t.Errorf("%s: %s ahead, want %s", step.what, st.Ahead, step.ahead)
		}
	}
}
