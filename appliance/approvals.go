package appliance

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"riparo/appliance/jobs"
	"riparo/appliance/protection"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// Kinds of requests that need a second pair of eyes.
const (
	approveDelete    = "delete-points"
	approveUnpin     = "unpin-point"
	approveDisable   = "disable-protection"
	approveRetention = "shorten-retention"
	approveErase     = "erase-kept"
)

const (
	// approvalLife: who approves has seen the day on which it was asked for.
	approvalLife = 24 * time.Hour
	// maxApprovals bounds what waits, so that nobody hides one among thousands.
	maxApprovals = 50
)

// fourEyes stores a request for another administrator and says so, as a problem. It is
// nil when there is only one administrator: then a second pair of eyes does not exist,
// and what is done is told loudly instead.
func (a *Appliance) fourEyes(person string, r store.Approval) error {
	now := time.Now()
	r.State, r.RequestedBy, r.Requested, r.Expires = store.ApprovalWaiting, person, now, now.Add(approvalLife)
	alone := false
	err := a.store.Update(func(tx *store.Tx) error {
		if n, err := administrators(tx); err != nil {
			return err
		} else if n < 2 {
			alone = true
			return tx.AddEvent(store.Event{Severity: store.SeverityWarning, Code: "approval.alone", Machine: string(r.Machine), Name: r.Name,
				Text: fmt.Sprintf("%s was done by %s without a second pair of eyes: there is only one administrator", r.Text, person), Args: map[string]string{"actor": person, "what": r.Text}})
		}
		if user, err := tx.Users().Get(person); err != nil || user.Role != store.Administrator || user.Disabled {
			return replication.Stopf("approval.person", "ask for it as a person who is an administrator, or with a token that such a person made", "%s needs a second administrator's approval, and %q is not a person who can ask for it", r.Text, person)
		}
		waiting := 0
		for other, err := range tx.Approvals().All() {
			if err != nil {
				return err
			}
			if other.State != store.ApprovalWaiting || !now.Before(other.Expires) {
				continue
			}
			waiting++
			if sameRequest(other, r) {
				r = other // it was asked for before
				return nil
			}
		}
		if waiting >= maxApprovals {
			return replication.Stopf("approval.many", "decide about those that wait under Approvals", "%d requests wait for approval already", waiting)
		}
		r.ID = store.NewID(now)
		return errors.Join(tx.Approvals().Put(r), tx.AddEvent(approvalEvent(r, store.SeverityWarning, "approval.requested", fmt.Sprintf("%s asks to %s; another administrator has to approve it within 24 h", person, r.Text))))
	})
	if err != nil || alone {
		return err
	}
	return &replication.Problem{Code: "approval.needed", Cause: fmt.Sprintf("to %s needs a second administrator", r.Text), Effect: "nothing was done yet; the request " + r.ID + " waits",
		Action: "let another administrator approve it under Approvals within 24 h", Remedy: replication.Stop}
}

func sameRequest(x, y store.Approval) bool {
	if x.Kind == approveSignOn {
		// A secret is sealed anew each time: who asks again with one gets another request.
		return x.Kind == y.Kind && x.RequestedBy == y.RequestedBy && reflect.DeepEqual(x.SignOn, y.SignOn)
	}
	if x.Kind == approveUser || x.Kind == approveSecond {
		// The password of a reset differs in its salt alone: who asks again gets another request.
		return x.Kind == y.Kind && strings.EqualFold(x.Name, y.Name) && x.RequestedBy == y.RequestedBy && reflect.DeepEqual(x.User, y.User) && reflect.DeepEqual(x.Second, y.Second) && reflect.DeepEqual(x.SecondWas, y.SecondWas)
	}
	return x.Kind == y.Kind && x.Machine == y.Machine && x.RequestedBy == y.RequestedBy && slices.Equal(x.Points, y.Points) && slices.Equal(x.Protected, y.Protected) && slices.Equal(x.Disks, y.Disks) && reflect.DeepEqual(x.Policy, y.Policy) && reflect.DeepEqual(x.Was, y.Was) && x.Ahead == y.Ahead
}

// administrators counts those who can decide: a closed account is no second pair of eyes,
// and waiting for it would be waiting for ever.
func administrators(tx *store.Tx) (n int, err error) {
	for u, err := range tx.Users().All() {
		if err != nil {
			return 0, err
		}
		if u.Role == store.Administrator && !u.Disabled {
			n++
		}
	}
	return n, nil
}

func approvalEvent(r store.Approval, severity, code, text string) store.Event {
	return store.Event{Severity: severity, Code: code, Machine: string(r.Machine), Name: r.Name, Text: text, Args: map[string]string{"request": r.ID, "kind": r.Kind, "requested by": r.RequestedBy, "decided by": r.DecidedBy}}
}

// Approve does what another administrator asked for.
func (a *Appliance) Approve(ctx context.Context, person, id string) error {
	r, err := a.decide(person, id, store.ApprovalGranted)
	if err != nil {
		return err
	}
	err = a.perform(ctx, r)
	if err == nil {
		return nil
	}
	// It was granted, and the world had moved on.
	return errors.Join(err, a.store.Update(func(tx *store.Tx) error {
		kept, err2 := tx.Approvals().Get(id)
		if err2 != nil {
			return err2
		}
		kept.State, kept.Result = store.ApprovalObsolete, replication.AsProblem(err).Error()
		return errors.Join(tx.Approvals().Put(kept), tx.AddEvent(approvalEvent(kept, store.SeverityWarning, "approval.failed", fmt.Sprintf("what %s approved could not be done: %s", person, kept.Result))))
	}))
}

// Refuse ends a request. Who asked may take it back this way.
func (a *Appliance) Refuse(_ context.Context, person, id string) error {
	_, err := a.decide(person, id, store.ApprovalRefused)
	return err
}

// decide notes a decision, once, by a person who may take it.
func (a *Appliance) decide(person, id string, state store.ApprovalState) (r store.Approval, err error) {
	now := time.Now()
	err = a.store.Update(func(tx *store.Tx) (err error) {
		if r, err = tx.Approvals().Get(id); errors.Is(err, store.ErrNotFound) {
			return replication.Stopf("approval.unknown", "choose one of the requests that wait", "there is no request %q", id)
		} else if err != nil {
			return err
		}
		user, err := tx.Users().Get(person)
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && (user.Role != store.Administrator || user.Disabled):
			return replication.Stopf("approval.person", "decide as a person who is an administrator, or with a token that such a person made", "%q is not a person who can decide about requests", person)
		case err != nil:
			return err
		case r.State != store.ApprovalWaiting:
			return replication.Stopf("approval.decided", "ask for it anew", "request %s is %s already", id, r.State)
		case !now.Before(r.Expires):
			return replication.Stopf("approval.expired", "ask for it anew", "request %s has expired on %s", id, r.Expires.UTC().Format(time.RFC3339))
		case state == store.ApprovalGranted && strings.EqualFold(person, r.RequestedBy):
			return replication.Stopf("approval.own", "let another administrator approve it", "%s cannot approve what %s asked for", person, r.RequestedBy)
		}
		r.State, r.DecidedBy, r.Decided = state, user.Name, now
		text := fmt.Sprintf("%s approved the request of %s to %s", user.Name, r.RequestedBy, r.Text)
		if state == store.ApprovalRefused {
			text = fmt.Sprintf("%s refused the request of %s to %s", user.Name, r.RequestedBy, r.Text)
		}
		return errors.Join(tx.Approvals().Put(r), tx.AddEvent(approvalEvent(r, store.SeverityWarning, "approval."+string(state), text)))
	})
	return r, err
}

// perform does what was approved.
func (a *Appliance) perform(ctx context.Context, r store.Approval) error {
	actor := fmt.Sprintf("%s, approved by %s", r.RequestedBy, r.DecidedBy)
	switch r.Kind {
	case approveDelete:
		if err := a.stillDelete(r); err != nil {
			return err
		}
		return a.protect.DeletePoints(ctx, r.Machine, actor, r.Points, true)
	case approveUnpin:
		return a.protect.Unpin(ctx, r.Machine, actor, r.Points[0])
	case approveDisable:
		if err := a.stillDisable(r.Machine); err != nil {
			return err
		}
		_, err := a.jobs.Start(ctx, jobs.Spec{Kind: string(lifecycle.DisableProtection), Machine: r.Machine, Name: r.Name, Actor: actor, Params: map[string]string{}})
		return err
	case approveErase:
		id := string(r.Machine)
		if id == "" && len(r.Disks) > 0 {
			id = string(r.Disks[0]) // it never belonged to a machine
		}
		return a.protect.EraseKept(ctx, id, actor, r.Disks)
	case approveRetention:
		return a.shorten(ctx, actor, r)
	case approveUser:
		return a.performUser(ctx, actor, r)
	case approveClock:
		if ahead := a.vault.ClockState().Ahead; ahead > r.Ahead+clockTolerance {
			return replication.Stopf("approval.overtaken", "look at the clock, and ask for it anew", "the clock is %s ahead now, and was %s when that was asked for", ahead.Round(time.Minute), r.Ahead)
		}
		return a.performClock(ctx, actor)
	case approveSignOn:
		return a.performSignOn(ctx, actor, r)
	case approveSecond:
		return a.performSecond(actor, r)
	}
	return fmt.Errorf("request %s is of the unknown kind %q", r.ID, r.Kind)
}

// expireApprovals tells of requests that nobody decided about in time.
func (a *Appliance) expireApprovals(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		err := a.store.Update(func(tx *store.Tx) error {
			var late []store.Approval
			for r, err := range tx.Approvals().All() {
				if err != nil {
					return err
				}
				if r.State == store.ApprovalWaiting && !time.Now().Before(r.Expires) {
					late = append(late, r)
				}
			}
			for _, r := range late {
				r.State = store.ApprovalExpired
				if err := errors.Join(tx.Approvals().Put(r), tx.AddEvent(approvalEvent(r, store.SeverityInfo, "approval.expired", fmt.Sprintf("nobody approved within 24 h that %s may %s", r.RequestedBy, r.Text)))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			a.log.Warn("requests for approval were not looked through", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Pin keeps a point until it is unpinned.
func (a *Appliance) Pin(ctx context.Context, who api.Who, machine replication.MachineID, point replication.PointID, note string) error {
	return a.protect.Pin(ctx, machine, who.Name, point, note)
}

// Unpin lets a point go by the rules of retention again. It takes four eyes.
func (a *Appliance) Unpin(ctx context.Context, who api.Who, machine replication.MachineID, point replication.PointID) error {
	m, err := a.protect.Pinned(machine, point)
	if err != nil {
		return err
	}
	if err := a.fourEyes(who.Person, store.Approval{Kind: approveUnpin, Machine: machine, Name: m.Name, Points: []replication.PointID{point},
		Text: fmt.Sprintf("unpin recovery point %s of %s", point, m.Name)}); err != nil {
		return err
	}
	return a.protect.Unpin(ctx, machine, who.Name, point)
}

// DeletePoints deletes points of a machine. For those that are protected it takes four
// eyes.
func (a *Appliance) DeletePoints(ctx context.Context, who api.Who, machine replication.MachineID, points []replication.PointID) error {
	m, protected, err := a.protect.Deletable(machine, points)
	if err != nil {
		return err
	}
	if len(protected) > 0 {
		if err := a.fourEyes(who.Person, store.Approval{Kind: approveDelete, Machine: machine, Name: m.Name, Points: points, Protected: protected,
			Text: fmt.Sprintf("delete recovery points of %s: %d, protected among them: %d", m.Name, len(points), len(protected))}); err != nil {
			return err
		}
	}
	return a.protect.DeletePoints(ctx, machine, who.Name, points, len(protected) > 0)
}

// DismissAlarm ends the alarm that a machine's disks turn to noise.
func (a *Appliance) DismissAlarm(_ context.Context, who api.Who, machine replication.MachineID, note string) error {
	return a.protect.DismissAlarm(machine, who.Name, note)
}

// mayDisable asks for four eyes where disabling would erase protected points.
func (a *Appliance) mayDisable(m store.Machine, r api.Request) error {
	if r.Verb != lifecycle.DisableProtection || r.KeepPoints {
		return nil
	}
	points, err := a.erasable(m)
	if err != nil {
		return err
	}
	protected := protection.Protected(m, points)
	if len(protected) == 0 {
		return nil
	}
	return a.fourEyes(r.Person, store.Approval{Kind: approveDisable, Machine: m.ID, Name: m.Name,
		Text: fmt.Sprintf("disable the protection of %s and erase its recovery points, protected among them: %d", m.Name, len(protected))})
}

// erasable are the points that go with a machine, or the problem that one of them is locked.
func (a *Appliance) erasable(m store.Machine) ([]replication.RecoveryPoint, error) {
	points, err := a.protect.Points(m)
	if errors.Is(err, replication.ErrUnknownDisk) {
		return nil, nil // nothing was ever kept
	}
	if err != nil {
		return nil, err
	}
	return points, protection.Locked(m.Name, points)
}

// mayShorten asks for four eyes where a policy in use would keep less than before, or
// lock points for less time.
func (a *Appliance) mayShorten(person string, p replication.Policy) error {
	var before store.Policy
	used := 0
	err := a.store.View(func(tx *store.Tx) (err error) {
		if before, err = tx.Policies().Get(p.Name); err != nil {
			return err
		}
		for m, err := range tx.Machines().All() {
			if err != nil {
				return err
			}
			if m.Policy == p.Name {
				used++
			}
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	less, unlocks := p.Retention.KeepsLessThan(before.Retention), p.LockFor < before.LockFor
	if err != nil || used == 0 || !less && !unlocks {
		return err
	}
	text := fmt.Sprintf("shorten the retention of policy %s from %s to %s, which %d machines use", p.Name, before.Retention, p.Retention, used)
	switch {
	case less && unlocks:
		text = fmt.Sprintf("shorten the lock of points in policy %s from %s to %s and its retention from %s to %s, which %d machines use", p.Name, before.LockFor, p.LockFor, before.Retention, p.Retention, used)
	case unlocks:
		text = fmt.Sprintf("shorten the lock of points in policy %s from %s to %s, which %d machines use", p.Name, before.LockFor, p.LockFor, used)
	}
	return a.fourEyes(person, store.Approval{Kind: approveRetention, Name: p.Name, Policy: &p, Was: &before.Policy, Text: text})
}

// shorten saves a policy that was approved, unless it became another one meanwhile: what
// somebody else changed would be undone without a word.
func (a *Appliance) shorten(ctx context.Context, actor string, r store.Approval) error {
	return a.savePolicy(ctx, actor, *r.Policy, func(now replication.Policy) error {
		if r.Was == nil || !reflect.DeepEqual(now, *r.Was) {
			return replication.Stopf("approval.overtaken", "look at the policy, and ask for it anew", "policy %s was changed after that was asked for", r.Name)
		}
		return nil
	})
}

// stillDelete refuses to delete points of which more are protected than when that was
// asked for: nobody has approved that those go.
func (a *Appliance) stillDelete(r store.Approval) error {
	m, protected, err := a.protect.Deletable(r.Machine, r.Points)
	if err != nil {
		return err
	}
	more := slices.DeleteFunc(protected, func(id replication.PointID) bool { return slices.Contains(r.Protected, id) })
	if len(more) > 0 {
		return replication.Stopf("approval.overtaken", "look at the points, and ask for it anew", "%d of these points of %s became protected after that was asked for", len(more), m.Name)
	}
	return nil
}

// stillDisable refuses to disable a machine that is not what it was when that was asked
// for: a test failover began, it has failed over, or points of it were locked.
func (a *Appliance) stillDisable(id replication.MachineID) error {
	m, err := store.Get(a.store, store.Machines, string(id))
	if err != nil {
		return err
	}
	// A job of it that is under way keeps the new one from starting.
	why := lifecycle.Why(lifecycle.Situation{Scenario: m.Scenario, Direction: m.Direction, State: m.State, Drill: m.Drill,
		Paused: m.Paused, HasPoints: m.LastPoint != nil}, lifecycle.DisableProtection)
	if why != "" {
		return &replication.Problem{Code: "verb.refused", Cause: fmt.Sprintf("%s cannot be done on %s now", lifecycle.DisableProtection, m.Name), Effect: "nothing was changed", Action: why, Remedy: replication.Stop}
	}
	_, err = a.erasable(m)
	return err
}
