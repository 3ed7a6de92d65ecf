package web

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/view"
)

// records is what most pages read, at one instant.
type records struct {
	machines   []store.Machine
	policies   map[string]replication.Policy
	sites      map[string]store.Site
	unfinished []store.Job
}

// memory keeps the records that most pages read, and follows the store: with a
// thousand machines, decoding all of them for every page would be most of the work.
type memory struct {
	changed func() []string // since it was asked last
	cancel  func()

	mu    sync.Mutex // guards the rest
	kept  records
	whole bool // kept is what the store had when changed was asked last
}

// records gives what most pages read. It is shared: nobody changes it.
func (k *Console) records() (records, error) {
	m := &k.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	names := m.changed()
	if m.whole && len(names) == 0 {
		return m.kept, nil
	}
	next := records{}
	err := k.Store.View(func(tx *store.Tx) (err error) {
		if m.whole && !slices.Contains(names, store.Everything) {
			next, err = follow(tx, m.kept, names)
		} else {
			next, err = readRecords(tx)
		}
		return err
	})
	m.whole = err == nil // else the names are lost
	if err == nil {
		m.kept = next
	}
	return next, err
}

func readRecords(tx *store.Tx) (records, error) {
	r := records{policies: map[string]replication.Policy{}, sites: map[string]store.Site{}}
	for m, err := range tx.Machines().All() {
		if err != nil {
			return r, err
		}
		r.machines = append(r.machines, m)
	}
	for p, err := range tx.Policies().All() {
		if err != nil {
			return r, err
		}
		r.policies[p.Name] = p.Policy
	}
	for s, err := range tx.Sites().All() {
		if err != nil {
			return r, err
		}
		r.sites[s.Name] = s
	}
	var err error
	r.unfinished, err = tx.AllUnfinishedJobs()
	return r, err
}

// follow reads again what changed. What r points to is left as it is.
func follow(tx *store.Tx, r records, names []string) (records, error) {
	r.machines, r.policies, r.sites = slices.Clone(r.machines), maps.Clone(r.policies), maps.Clone(r.sites)
	jobs := false
	for _, name := range names {
		topic, key, _ := strings.Cut(name, "/")
		var err error
		switch topic {
		case "machine":
			i, known := slices.BinarySearchFunc(r.machines, key, func(m store.Machine, id string) int { return strings.Compare(string(m.ID), id) })
			var m store.Machine
			switch m, err = tx.Machines().Get(key); {
			case err == nil && known:
				r.machines[i] = m
			case err == nil:
				r.machines = slices.Insert(r.machines, i, m)
			case isMissing(err) && known:
				r.machines = slices.Delete(r.machines, i, i+1)
			}
		case "policy":
			var p store.Policy
			if p, err = tx.Policies().Get(key); err == nil {
				r.policies[key] = p.Policy
			} else {
				delete(r.policies, key)
			}
		case "site":
			var s store.Site
			if s, err = tx.Sites().Get(key); err == nil {
				r.sites[key] = s
			} else {
				delete(r.sites, key)
			}
		case "job":
			jobs = true
		}
		if err != nil && !isMissing(err) {
			return r, err
		}
	}
	if !jobs {
		return r, nil
	}
	var err error
	r.unfinished, err = tx.AllUnfinishedJobs()
	return r, err
}

// jobOf gives the job of a machine that has not ended, or nil.
func (r records) jobOf(m store.Machine) *store.Job {
	for i := range r.unfinished {
		if r.unfinished[i].Machine == string(m.ID) {
			return &r.unfinished[i]
		}
	}
	return nil
}

// situation is what decides the verbs of a machine.
func (r records) situation(m store.Machine, hasPoints bool) lifecycle.Situation {
	return lifecycle.Situation{Scenario: m.Scenario, Direction: m.Direction, State: m.State, Drill: m.Drill,
		Paused: m.Paused, HasPoints: hasPoints, Busy: r.jobOf(m) != nil}
}

// pointTime is the instant of a machine's newest point: what replication reports,
// or else what the record remembers.
func pointTime(m store.Machine, report MachineReport) time.Time {
	if report.PointTime.IsZero() && m.LastPoint != nil {
		return m.LastPoint.Time
	}
	return report.PointTime
}

// rpo is the age of the newest point; known is false when there is none.
func rpo(m store.Machine, report MachineReport, now time.Time) (age time.Duration, known bool) {
	at := pointTime(m, report)
	if at.IsZero() {
		return 0, false
	}
	return max(0, now.Sub(at)), true
}

// late reports whether an RPO is above the threshold of its policy.
func (r records) late(m store.Machine, age time.Duration, known bool) bool {
	limit := r.policies[m.Policy].RPOThreshold
	return known && limit > 0 && age > limit
}

// counted reports whether a machine's RPO means something now: replication runs,
// or should.
func counted(m store.Machine) bool {
	return lifecycle.Replicates(m.State) || m.State == lifecycle.ResyncRequired || m.State == lifecycle.Resyncing
}

func stateBadge(w *view.Words, m store.Machine) view.Badge {
	b := view.Badge{Text: w.Named("state", string(m.State)), Tone: view.Info, Icon: "run"}
	switch m.State {
	case lifecycle.Protected, lifecycle.ProtectedReverse:
		b.Tone, b.Icon = view.OK, "shield"
	case lifecycle.ResyncRequired:
		b.Tone, b.Icon = view.Warn, ""
	case lifecycle.CommitPending:
		b.Tone, b.Icon = view.Warn, "wait"
	case lifecycle.Committed, lifecycle.Migrated:
		b.Tone, b.Icon = view.Info, "commit"
	case lifecycle.Unprotected:
		b.Tone, b.Icon = view.Mute, ""
	}
	if m.Paused {
		b.Tone, b.Icon, b.Text = view.Warn, "pause", w.T("paused")
	}
	return b
}

func healthBadge(w *view.Words, h store.Health) view.Badge {
	b := view.Badge{Tone: view.Mute, Text: w.T("health.not-applicable")}
	switch h.Level {
	case store.Healthy:
		b = view.Badge{Tone: view.OK, Text: w.T("health.healthy")}
	case store.Warning:
		b = view.Badge{Tone: view.Warn, Text: w.T("health.warning")}
	case store.Critical:
		b = view.Badge{Tone: view.Bad, Text: w.T("health.critical")}
	}
	return b
}

// drillBadge tells of the test failover under way, or of the last one.
func drillBadge(w *view.Words, m store.Machine, now time.Time) view.Badge {
	switch {
	case m.Drill == lifecycle.DrillUnhealthy:
		return view.Badge{Tone: view.Bad, Text: w.T("drill.failed")}
	case m.Drill == lifecycle.DrillRunning:
		return view.Badge{Tone: view.Info, Icon: "test", Text: w.T("drill.running")}
	case m.Drill != lifecycle.NoDrill:
		return view.Badge{Tone: view.Info, Icon: "run", Text: w.Named("drill-state", string(m.Drill))}
	case m.LastDrill == nil:
		return view.Badge{Tone: view.Mute, Text: w.T("drill.never")}
	case !m.LastDrill.Passed:
		return view.Badge{Tone: view.Bad, Text: w.T("drill.failed")}
	case now.Sub(m.LastDrill.Finished) > lifecycle.DrillInterval:
		return view.Badge{Tone: view.Warn, Text: w.T("drill.due")}
	}
	return view.Badge{Tone: view.OK, Text: w.T("drill.passed")}
}

func toneOf(level string) view.Tone {
	switch level {
	case string(store.Critical):
		return view.Bad
	case string(store.Warning):
		return view.Warn
	}
	return view.Info
}

func findingOf(w *view.Words, f store.Finding) view.Finding {
	return view.Finding{Tone: toneOf(f.Level), Cause: sentence(w.Said(f.Cause)), Effect: sentence(w.Said(f.Effect)),
		Action: sentence(w.Said(f.Action)), Since: f.Since}
}

// sentence begins a text with a capital, as a line of its own does.
func sentence(text string) string {
	for i, r := range text {
		if i == 0 {
			return strings.ToUpper(string(r)) + text[len(string(r)):]
		}
	}
	return text
}

// route says from where to where a machine is replicated.
func route(m store.Machine) string {
	if m.Direction == lifecycle.Reverse {
		return m.Target.Site + " → " + m.Source.Site
	}
	return m.Source.Site + " → " + m.Target.Site
}

func kindName(w *view.Words, c replication.Consistency) string {
	return w.Named("point-kind", string(c))
}
