package api

import (
	"slices"
	"strings"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// Past is what reports are made of, remembered: of every event and every job the little
// that a report wants to know. To read all of them for each look takes a second on a
// large appliance; to follow what is added takes nothing.
type Past struct {
	machines *store.Mirror[store.Machine, store.Machine]
	policies *store.Mirror[store.Policy, store.Policy]
	events   *store.Mirror[store.Event, heard]
	jobs     *store.Mirror[store.Job, store.Job]
}

// NewPast gives the past of a store. It reads when it is first asked. Call Close when
// done.
func NewPast(st *store.Store) *Past {
	return &Past{machines: store.NewMirror(st, store.Machines, store.Whole), policies: store.NewMirror(st, store.Policies, store.Whole),
		events: store.NewMirror(st, store.Events, hear), jobs: store.NewMirror(st, store.Jobs, tested)}
}

// Close ends the following.
func (p *Past) Close() {
	p.machines.Close()
	p.policies.Close()
	p.events.Close()
	p.jobs.Close()
}

// heard is what a report knows of an event.
type heard struct {
	at      time.Time
	machine string
	code    string         // if it matters for the objective, else empty
	kind    lifecycle.Verb // of a job that succeeded
}

// hear keeps what matters of an event.
func hear(e *store.Event) heard {
	h := heard{at: e.Time, machine: strings.Clone(e.Machine)}
	for _, code := range []string{breached, met, succeeded} {
		if e.Code == code {
			h.code = code
		}
	}
	if kind := lifecycle.Verb(e.Args["kind"]); h.code == succeeded && (leaves[kind] || returns[kind]) {
		h.kind = kind
	}
	return h
}

// tested keeps what the list of drills shows of a job. Their steps and what a machine
// printed are not part of it.
func tested(j *store.Job) store.Job {
	short := store.Job{ID: j.ID, Kind: j.Kind}
	switch lifecycle.Verb(j.Kind) {
	case lifecycle.TestFailover, lifecycle.CleanupTest:
		short = *j
		short.Steps = nil
		for _, s := range j.Steps {
			for _, f := range s.Evidence {
				if f.Name == "age" {
					short.Steps = append(short.Steps, store.Step{Evidence: []store.Fact{f}})
				}
			}
		}
	}
	return short
}

// Drills are the test failovers that began at since or later, the newest first, without
// their steps and what their machines printed.
func (p *Past) Drills(machine replication.MachineID, since time.Time) ([]Drill, error) {
	machines, err := p.machines.All()
	if err != nil {
		return nil, err
	}
	jobs, err := p.jobs.All()
	if err != nil {
		return nil, err
	}
	protected := make(map[string]bool, len(machines))
	for _, m := range machines {
		protected[string(m.ID)] = true
	}
	d := drilling{since: since, protected: protected}
	for _, j := range jobs {
		if machine == "" || j.Machine == string(machine) {
			d.add(j)
		}
	}
	return d.done(), nil
}

// Compliance judges machines that are protected: one, or all, by name. It goes by the
// events of breaches, because old recovery points are thinned and say nothing of how
// young the newest one was then.
func (p *Past) Compliance(machine replication.MachineID, since, now time.Time) ([]Compliance, error) {
	machines, err := p.machines.All()
	if err != nil {
		return nil, err
	}
	policies, err := p.policies.All()
	if err != nil {
		return nil, err
	}
	events, err := p.events.All()
	if err != nil {
		return nil, err
	}
	thresholds := map[string]time.Duration{}
	for _, policy := range policies {
		thresholds[policy.Name] = policy.RPOThreshold
	}
	stories := make(map[string][]heard, len(machines))
	for _, e := range events {
		if machine == "" || e.machine == string(machine) {
			stories[e.machine] = append(stories[e.machine], e)
		}
	}
	out := []Compliance{}
	for _, m := range machines {
		if machine != "" && m.ID != machine {
			continue
		}
		c := Compliance{Machine: m.ID, Name: m.Name, Policy: m.Policy, Threshold: thresholds[m.Policy].Seconds(), Since: later(since, m.Created), Until: now}
		// The log of events is full: what came before its first one is not known.
		if full := len(events) >= store.MaxEvents; full && events[0].at.After(c.Since) {
			c.Since, c.Partial = events[0].at, true
		}
		late := slices.ContainsFunc(m.Health.Findings, func(f store.Finding) bool { return f.Code == breached })
		c.judge(stories[string(m.ID)], late)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Compliance) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
