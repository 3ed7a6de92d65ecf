package appliance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// approveClock is the kind of request to take the clock as the trusted time.
const approveClock = "confirm-clock"

// clockEvery is how often the clock is compared with the vault's trusted time.
const clockEvery = 10 * time.Second

// clockProblem is the finding that the clock is ahead of the time by which the vault
// measures locks; nil when it is not.
func (a *Appliance) clockProblem() *replication.Problem {
	state := a.vault.ClockState()
	if state.Ahead == 0 {
		return nil
	}
	return &replication.Problem{Code: "clock.ahead", Cause: fmt.Sprintf("the clock of the appliance is %s ahead of the time that the vault trusts", state.Ahead.Round(time.Minute)),
		Effect: "locks and ages of recovery points are measured by the trusted time: locks last, and points are kept, that much longer",
		Action: "set the clock right if somebody has set it forward; if the vault was really closed for so long, confirm the clock under Infrastructure, which takes two administrators while points are locked", Remedy: replication.Stop}
}

// watchClock notes when the clock begins to be ahead, and when that ends.
func (a *Appliance) watchClock(ctx context.Context) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		// A vault that cannot be written says so itself.
		_ = a.vault.KeepTime()
		if err := a.noteClock(); err != nil {
			a.log.Error("whether the clock is ahead could not be noted", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// noteClock keeps since when the clock is ahead, and tells when that changes.
func (a *Appliance) noteClock() error {
	p, now := a.clockProblem(), time.Now().UTC()
	err := a.store.Update(func(tx *store.Tx) error {
		var noted store.ClockNote
		if _, err := tx.Setting(store.SettingClock, &noted); err != nil {
			return err
		}
		switch ahead := !noted.Since.IsZero(); {
		case p != nil && !ahead:
			return errors.Join(tx.SetSetting(store.SettingClock, store.ClockNote{Since: now}),
				tx.AddEvent(store.Event{Severity: store.SeverityWarning, Code: "clock.ahead", Text: p.Cause}))
		case p == nil && ahead:
			return errors.Join(tx.SetSetting(store.SettingClock, store.ClockNote{}),
				tx.AddEvent(store.Event{Severity: store.SeverityInfo, Code: "clock.right", Text: "the clock of the appliance and the time that the vault trusts agree again"}))
		}
		return errUnchanged
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// errUnchanged ends a transaction that has nothing to write: an empty one would still
// cost an fsync.
var errUnchanged = errors.New("nothing changed")

// clockFinding is the finding as pages and programs get it, with since when.
func (a *Appliance) clockFinding() (*store.Finding, error) {
	p := a.clockProblem()
	if p == nil {
		return nil, nil
	}
	var noted store.ClockNote
	err := a.store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingClock, &noted)
		return err
	})
	return &store.Finding{Code: p.Code, Level: string(store.Warning), Cause: p.Cause, Effect: p.Effect, Action: p.Action, Since: noted.Since}, err
}

// clockTolerance is by how much further the clock may be ahead when a request to take it is
// approved.
const clockTolerance = time.Hour

// ConfirmClock takes the clock as the time by which locks are measured: as it is when that
// is approved, but not if it is further ahead by then. Where a point is locked it takes two
// administrators: who sets a clock forward and confirms it has ended every lock.
func (a *Appliance) ConfirmClock(ctx context.Context, who api.Who) error {
	state := a.vault.ClockState()
	if state.Ahead == 0 {
		return replication.Stopf("clock.right", "there is nothing to do", "the clock is not ahead of the time that the vault trusts")
	}
	if !a.anyLocked() { // it ends no lock, and what retention lets go one person may too
		return a.performClock(ctx, who.Name)
	}
	n := 0
	if err := a.store.View(func(tx *store.Tx) (err error) { n, err = administrators(tx); return err }); err != nil {
		return err
	}
	if n < 2 {
		return &replication.Problem{Code: "clock.alone", Cause: "to confirm the clock takes two administrators, and there is only one", Effect: "nothing was done: locks last longer",
			Action: "set the clock right, or add a second administrator", Remedy: replication.Stop}
	}
	return a.fourEyes(who.Person, store.Approval{Kind: approveClock, Ahead: state.Ahead.Round(time.Minute),
		Text: fmt.Sprintf("take the clock, which is %s ahead, as the time by which locks end", state.Ahead.Round(time.Minute))})
}

// anyLocked reports whether a lock is in force, or may be on a disk that cannot be read.
func (a *Appliance) anyLocked() bool {
	for _, d := range a.vault.Held() {
		points, err := a.vault.Points(d.ID)
		if errors.Is(err, replication.ErrUnknownDisk) {
			continue // erased meanwhile
		}
		if err != nil || slices.ContainsFunc(points, func(p replication.RecoveryPoint) bool { return p.Locked }) {
			return true
		}
	}
	return false
}

// performClock does what was approved.
func (a *Appliance) performClock(ctx context.Context, actor string) error {
	if err := a.vault.ConfirmClock(ctx); err != nil {
		return err
	}
	err := a.store.Update(func(tx *store.Tx) error {
		return tx.AddEvent(store.Event{Severity: store.SeverityWarning, Code: "clock.confirmed", Text: "the clock was taken as the time by which locks end: " + actor, Args: map[string]string{"actor": actor}})
	})
	return errors.Join(err, a.noteClock())
}
