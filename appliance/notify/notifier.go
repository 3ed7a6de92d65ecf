package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"riparo/replication"
	"riparo/store"
	"riparo/web/view"
)

// Config is what a notifier is made of.
type Config struct {
	Store  *store.Store
	Log    *slog.Logger
	Secret Secret
	// Look adds what is not in the store to a World.
	Look func(w *World)
	// Name and URL are those of the appliance, for people who read a message.
	Name func() string
	URL  func() string
	Zone func() *time.Location
	// Proxy is how web hooks are reached.
	Proxy func(*http.Request) (*url.URL, error)
	Now   func() time.Time
	// RetryUnit is the minute of the retry schedule.
	RetryUnit time.Duration
}

// Notifier watches and tells. Call New; Run does the work.
type Notifier struct {
	Config
	catalog *view.Catalog
	memory  memory
	wake    chan struct{} // one slot: a message is to go out
}

// New makes a notifier.
func New(c Config) (*Notifier, error) {
	catalog, err := view.Load()
	if err != nil {
		return nil, err
	}
	c.RetryUnit = cmp.Or(c.RetryUnit, time.Minute)
	return &Notifier{Config: c, catalog: catalog, memory: newMemory(), wake: make(chan struct{}, 1)}, nil
}

const (
	// watchEvery is how often the rules are looked at.
	watchEvery = 10 * time.Second
	// calm is how long what an alert tells of must be over before the alert ends, so
	// that what flickers is one alert.
	calm = time.Minute
	// maxItems bounds a message; the rest is a number.
	maxItems = 50
)

// Run watches and sends until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			if err := n.Watch(); err != nil {
				n.Log.Error("the rules of alerts could not be looked at", "error", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
	})
	group.Go(func() error { return n.send(ctx) })
	return group.Wait()
}

// Settings gives the settings, with the rules of a fresh appliance when nobody chose
// others.
func (n *Notifier) Settings() (s store.Notifications, err error) {
	err = n.Store.View(func(tx *store.Tx) (err error) {
		s, err = settingsIn(tx)
		return err
	})
	return s, err
}

func settingsIn(tx *store.Tx) (store.Notifications, error) {
	s := store.Notifications{Rules: store.DefaultRules()}
	_, err := tx.Setting(store.SettingNotify, &s)
	return s, err
}

// Watch looks at the rules once, and keeps what follows.
func (n *Notifier) Watch() error {
	w := World{Now: n.Now(), Free: -1}
	if err := n.read(&w); err != nil {
		return err
	}
	if n.Look != nil {
		n.Look(&w)
	}
	n.memory.follow(&w)
	due := false
	err := n.Store.Update(func(tx *store.Tx) error {
		settings, err := settingsIn(tx)
		if err != nil {
			return err
		}
		news, err := n.reconcile(tx, w, settings.Rules)
		if err != nil || len(news) == 0 {
			if err == nil {
				err = errNothing // an empty transaction would still cost an fsync
			}
			return err
		}
		due = true
		return queue(tx, w.Now, channels(settings), settings.Rules.Gather, news)
	})
	if due {
		n.nudge()
	}
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

var errNothing = errors.New("nothing happened")

func (n *Notifier) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// read fills a World from the store.
func (n *Notifier) read(w *World) error {
	w.Policies = map[string]replication.Policy{}
	return n.Store.View(func(tx *store.Tx) error {
		for m, err := range tx.Machines().All() {
			if err != nil {
				return err
			}
			w.Machines = append(w.Machines, m)
		}
		for p, err := range tx.Policies().All() {
			if err != nil {
				return err
			}
			w.Policies[p.Name] = p.Policy
		}
		unfinished, err := tx.AllUnfinishedJobs()
		for _, j := range unfinished {
			w.Jobs = append(w.Jobs, Job{Job: j})
		}
		if err != nil {
			return err
		}
		if err := failedJobs(tx, w); err != nil {
			return err
		}
		_, err1 := tx.Setting(store.SettingBackup, &w.Plan)
		_, err2 := tx.Setting(store.SettingSaved, &w.Saved)
		return errors.Join(err1, err2, lostMessages(tx, w))
	})
}

// maxFailed bounds how many failed jobs are looked at: beyond it, older ones are told
// no more.
const maxFailed = 500

// failedJobs are those that no success of the same kind and machine has followed.
func failedJobs(tx *store.Tx, w *World) error {
	page, err := tx.JobsIn(store.Failed).Page("", maxFailed, true)
	if err != nil {
		return err
	}
	for _, j := range page {
		if w.Now.Sub(j.Ended) >= failedFor {
			continue
		}
		newer, err := followed(tx, j)
		if err != nil {
			return err
		}
		if !newer {
			w.Jobs = append(w.Jobs, Job{Job: j})
		}
	}
	return nil
}

// followed reports whether a job of the same machine and kind began later: it tells
// how things are now. Of jobs without a machine the newest of a kind counts.
func followed(tx *store.Tx, j store.Job) (bool, error) {
	if j.Machine != "" {
		if _, err := tx.Machines().Get(j.Machine); errors.Is(err, store.ErrNotFound) {
			return true, nil // nobody can mend it any more
		}
		later, err := tx.JobsOf(replication.MachineID(j.Machine)).Page(j.ID, 50, false)
		return slices.ContainsFunc(later, func(l store.Job) bool { return l.Kind == j.Kind }), err
	}
	later, err := tx.Jobs().Page(j.ID, 200, false)
	return slices.ContainsFunc(later, func(l store.Job) bool { return l.Kind == j.Kind && l.Machine == "" }), err
}

// lostMessages are the newest given-up message of each channel that nothing reached
// since.
func lostMessages(tx *store.Tx, w *World) error {
	page, err := tx.Deliveries().Page("", 200, true)
	done := map[string]bool{}
	for _, d := range page {
		if done[d.Channel] || d.Waiting() {
			continue
		}
		done[d.Channel] = true
		if !d.GivenUp.IsZero() {
			w.Lost = append(w.Lost, d)
		}
	}
	return err
}

// reconcile makes the alerts that stand those that should, and gives what is new.
func (n *Notifier) reconcile(tx *store.Tx, w World, rules store.AlertRules) ([]store.Item, error) {
	active := map[string]store.Alert{}
	for a, err := range tx.ActiveAlerts().All() {
		if err != nil {
			return nil, err
		}
		active[key(a)] = a
	}
	var news []store.Item
	for _, a := range Judge(w, rules) {
		n.memory.seen[key(a)] = w.Now
		item, changed, err := renew(tx, w.Now, rules, active, a)
		if err != nil {
			return nil, err
		}
		delete(active, key(a))
		if changed {
			news = append(news, item)
		}
	}
	for k, a := range active {
		if last, known := n.memory.seen[k]; !known {
			n.memory.seen[k] = w.Now // since this start
			continue
		} else if w.Now.Sub(last) < calm && !slices.Contains(rules.Off, a.Kind) {
			continue
		}
		delete(n.memory.seen, k)
		a.Ended = w.Now
		if err := tx.Alerts().Put(a); err != nil {
			return nil, err
		}
		news = append(news, store.Item{What: store.AlertEnded, Alert: a})
	}
	slices.SortFunc(news, func(a, b store.Item) int {
		return cmp.Or(rank(b.Alert.Severity)-rank(a.Alert.Severity), cmp.Compare(a.Alert.Kind, b.Alert.Kind), cmp.Compare(a.Alert.Name, b.Alert.Name))
	})
	return news, nil
}

func key(a store.Alert) string { return a.Kind + "\x00" + a.Subject }

// renew keeps one alert that should stand. It is news when it is new, worse than
// before, or to be told again.
func renew(tx *store.Tx, now time.Time, rules store.AlertRules, active map[string]store.Alert, a store.Alert) (store.Item, bool, error) {
	old, known := active[key(a)]
	what := store.AlertRaised
	switch {
	case !known:
		a.ID, a.Since, a.Told = store.NewID(now), now, now
	case rank(a.Severity) > rank(old.Severity):
		a.ID, a.Since, a.Told = old.ID, old.Since, now
	case rules.Repeat > 0 && now.Sub(old.Told).Abs() >= rules.Repeat: // below 0 the clock was set back
		a.ID, a.Since, a.Told = old.ID, old.Since, now
		what = store.AlertReminded
	default:
		return store.Item{}, false, nil
	}
	return store.Item{What: what, Alert: a}, true, tx.Alerts().Put(a)
}

// rank orders severities.
func rank(severity string) int {
	return slices.Index([]string{store.SeverityInfo, store.SeverityWarning, store.SeverityCritical}, severity)
}

// channel is one recipient.
type channel struct {
	id       string
	severity string
	ended    bool
}

func channels(s store.Notifications) []channel {
	var all []channel
	if s.Mail.Host != "" {
		for _, r := range s.Mail.Recipients {
			all = append(all, channel{"mail:" + r.Address, r.Severity, r.Ended})
		}
	}
	for _, h := range s.Hooks {
		all = append(all, channel{"hook:" + h.ID, h.Severity, h.Ended})
	}
	return all
}

// queue writes what is news into the messages that are being gathered, or begins new
// ones.
func queue(tx *store.Tx, now time.Time, all []channel, gather time.Duration, news []store.Item) error {
	open := map[string]store.Delivery{}
	for d, err := range tx.WaitingDeliveries().All() {
		if err != nil {
			return err
		}
		if d.Attempts == 0 && !d.Test && !isDue(d, now, gather, 0) {
			open[d.Channel] = d
		}
	}
	for _, c := range all {
		d, there := open[c.id]
		if !there {
			d = store.Delivery{ID: store.NewID(now), Channel: c.id, Created: now, NextTry: now.Add(gather)}
		}
		for _, item := range news {
			d = c.add(d, item)
		}
		switch {
		case len(d.Items) == 0 && there: // what it was to tell is over
			if err := tx.Deliveries().Delete(d.ID); err != nil {
				return err
			}
		case len(d.Items) > 0:
			if err := tx.Deliveries().Put(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// add puts an item into a message, unless the recipient does not want it, or takes
// back one that is over before anybody was told.
func (c channel) add(d store.Delivery, item store.Item) store.Delivery {
	if rank(item.Alert.Severity) < rank(c.severity) {
		return d
	}
	i := slices.IndexFunc(d.Items, func(o store.Item) bool { return o.Alert.ID == item.Alert.ID })
	switch {
	case i >= 0 && item.What == store.AlertEnded && d.Items[i].What == store.AlertRaised:
		d.Items = slices.Delete(slices.Clone(d.Items), i, i+1)
	case i >= 0:
		d.Items = slices.Clone(d.Items)
		d.Items[i] = item
	case item.What == store.AlertEnded && !c.ended:
	case len(d.Items) >= maxItems:
		d.More++
	default:
		d.Items = append(slices.Clone(d.Items), item)
	}
	return d
}

// Test puts a message on its way that tells of nothing, and waits for what becomes of
// it.
func (n *Notifier) Test(ctx context.Context, id string) error {
	s, err := n.Settings()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(channels(s), func(c channel) bool { return c.id == id }) {
		return &replication.Problem{Code: "notify.channel", Cause: fmt.Sprintf("there is no recipient %s", strings.TrimPrefix(strings.TrimPrefix(id, "mail:"), "hook:")),
			Effect: "nothing was sent", Action: "save the settings first", Remedy: replication.Stop}
	}
	now := n.Now()
	d := store.Delivery{ID: store.NewID(now), Channel: id, Test: true, Created: now, NextTry: now}
	sendErr := n.deliver(ctx, s, d)
	d.Attempts, d.Sent = 1, n.Now()
	if sendErr != nil {
		p := replication.AsProblem(sendErr)
		d.Sent, d.GivenUp = time.Time{}, n.Now()
		d.Problem = &store.Finding{Code: p.Code, Cause: p.Cause, Effect: p.Effect, Action: p.Action, Since: d.GivenUp}
	}
	return errors.Join(sendErr, n.Store.Update(func(tx *store.Tx) error { return tx.Deliveries().Put(d) }))
}
