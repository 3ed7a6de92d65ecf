package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/view"
)

// The retry schedule of the seed: 1, 2, 4, 8, 10, then every 30 minutes, until giveUp
// has passed since the message was written.
var retries = []int{1, 2, 4, 8, 10, 30}

const (
	giveUp = 24 * 60 // minutes
	// attemptTime bounds one attempt.
	attemptTime = 30 * time.Second
	// idle is how long the sender sleeps when nothing waits.
	idle = time.Hour
)

// send brings messages on their way until ctx ends.
func (n *Notifier) send(ctx context.Context) error {
	for {
		next, err := n.Flush(ctx)
		if err != nil && ctx.Err() == nil {
			n.Log.Error("messages could not be looked at", "error", err)
			next = n.Now().Add(watchEvery)
		}
		wait := idle
		if !next.IsZero() {
			wait = max(next.Sub(n.Now()), 0)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-n.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// slack is by how much the clock may be set back without a message going out early: a
// minute more is no silence.
const slack = time.Minute

// isDue reports whether a message is to go out. One that would have to wait longer than any
// does was written before the clock was set back, and is due as well: nobody would hear
// of anything until the clock is there again.
func isDue(d store.Delivery, now time.Time, gather, unit time.Duration) bool {
	wait := gather
	if d.Attempts > 0 {
		wait = retryWait(d.Attempts, unit)
	}
	ahead := d.NextTry.Sub(now)
	return ahead <= 0 || ahead > wait+slack
}

// retryWait is how long a message waits after so many attempts.
func retryWait(attempts int, unit time.Duration) time.Duration {
	return time.Duration(retries[min(attempts, len(retries))-1]) * unit
}

// Flush tries every message that is due and tells when the next one is; zero: none
// waits.
func (n *Notifier) Flush(ctx context.Context) (next time.Time, err error) {
	var waiting []store.Delivery
	var settings store.Notifications
	err = n.Store.View(func(tx *store.Tx) (err error) {
		if settings, err = settingsIn(tx); err != nil {
			return err
		}
		for d, err := range tx.WaitingDeliveries().All() {
			if err != nil {
				return err
			}
			waiting = append(waiting, d)
		}
		return nil
	})
	for _, d := range waiting {
		if err != nil || ctx.Err() != nil {
			break
		}
		if !isDue(d, n.Now(), settings.Rules.Gather, n.RetryUnit) {
			next = earlier(next, d.NextTry)
			continue
		}
		again, tryErr := n.try(ctx, settings, d)
		next, err = earlier(next, again), tryErr
	}
	return next, err
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// try sends one message and notes the outcome. It gives the time of the next attempt.
func (n *Notifier) try(ctx context.Context, settings store.Notifications, d store.Delivery) (again time.Time, err error) {
	// The attempt is counted first, in a transaction: from then on nothing is added to
	// the message, and what is sent is all that it holds. A crash after it only means
	// that it is sent again.
	err = n.Store.Update(func(tx *store.Tx) (err error) {
		if d, err = tx.Deliveries().Get(d.ID); err != nil {
			return err
		}
		d.Attempts++
		return tx.Deliveries().Put(d)
	})
	if errors.Is(err, store.ErrNotFound) {
		return time.Time{}, nil // what it was to tell is over
	}
	if err != nil {
		return time.Time{}, err
	}
	sendErr := n.deliver(ctx, settings, d)
	if ctx.Err() != nil {
		return time.Time{}, nil // whether it arrived is not known: it is sent again
	}
	now := n.Now()
	err = n.Store.Update(func(tx *store.Tx) error {
		kept, err := tx.Deliveries().Get(d.ID)
		if err != nil {
			return err
		}
		if sendErr == nil {
			kept.Sent, kept.Problem = now, nil
			return tx.Deliveries().Put(kept)
		}
		p := replication.AsProblem(sendErr)
		kept.Problem = &store.Finding{Code: p.Code, Level: string(store.Warning), Cause: p.Cause, Effect: p.Effect, Action: p.Action, Since: now}
		wait := retryWait(kept.Attempts, n.RetryUnit)
		if kept.Created.After(now) { // the clock was set back: the day begins here
			kept.Created = now
		}
		if p.Code == "notify.channel" || now.Add(wait).Sub(kept.Created) > giveUp*n.RetryUnit {
			kept.GivenUp = now
		} else {
			kept.NextTry = now.Add(wait)
			again = kept.NextTry
		}
		return tx.Deliveries().Put(kept)
	})
	if sendErr != nil {
		n.Log.Warn("a message did not go out", "channel", d.Channel, "message", d.ID, "error", sendErr)
	} else {
		n.Log.Info("a message went out", "channel", d.Channel, "message", d.ID)
	}
	return again, err
}

// deliver sends a message once.
func (n *Notifier) deliver(ctx context.Context, s store.Notifications, d store.Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	kind, name, _ := strings.Cut(d.Channel, ":")
	switch kind {
	case "mail":
		for _, r := range s.Mail.Recipients {
			if r.Address == name && s.Mail.Host != "" {
				return n.mail(ctx, s.Mail, r, d)
			}
		}
	case "hook":
		for _, h := range s.Hooks {
			if h.ID == name {
				return n.hook(ctx, h, d)
			}
		}
	}
	return &replication.Problem{Code: "notify.channel", Cause: fmt.Sprintf("the recipient %s was removed", name), Effect: "the message is not sent", Remedy: replication.Stop}
}

// message is a delivery in the words of its reader.
func (n *Notifier) message(language string, d store.Delivery) view.Mail {
	zone := n.Zone()
	if zone == time.UTC {
		zone = nil // then times say so
	}
	words := n.catalog.Words(n.catalog.Match(language), zone)
	m := view.Mail{Words: words, Appliance: n.Name(), URL: n.URL(), ID: d.ID, Created: d.Created, Test: d.Test, More: d.More}
	for _, item := range d.Items {
		a := item.Alert
		m.Items = append(m.Items, view.NewAlertItem(words, item.What, a.Kind, a.Severity, a.Name, a.Args, a.Cause, a.Effect, a.Action, a.Since, a.Ended))
	}
	return m
}
