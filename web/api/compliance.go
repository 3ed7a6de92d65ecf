package api

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// Compliance says how well a machine met its recovery point objective in a period:
// how much of the time that it was replicated its newest recovery point was young
// enough.
type Compliance struct {
	Machine   replication.MachineID `json:"machine"`
	Name      string                `json:"name"`
	Policy    string                `json:"policy"`
	Threshold float64               `json:"rpo_threshold_seconds" doc:"The objective as it is now; 0 when there is none."`
	Since     time.Time             `json:"since" doc:"From when on it was looked at: the beginning of the period, or of its protection."`
	Until     time.Time             `json:"until"`
	Observed  float64               `json:"observed_seconds" doc:"How long it was to be replicated in that time. While it is failed over it is not."`
	Late      float64               `json:"late_seconds" doc:"How long the objective was not met."`
	Breaches  int                   `json:"breaches"`
	Longest   float64               `json:"longest_breach_seconds"`
	Met       *float64              `json:"met_percent" doc:"Share of the time; null when there is no objective, or nothing was observed."`
	Partial   bool                  `json:"partial,omitempty" doc:"Older events are not kept any more: the period is longer than what is known."`
}

// ComplianceOf judges machines that are protected: one, or all, by name. It goes by
// the events of breaches, because old recovery points are thinned and say nothing of
// how young the newest one was then.
func ComplianceOf(tx *store.Tx, machine replication.MachineID, since, now time.Time) ([]Compliance, error) {
	thresholds := map[string]time.Duration{}
	for p, err := range tx.Policies().All() {
		if err != nil {
			return nil, err
		}
		thresholds[p.Name] = p.RPOThreshold
	}
	oldest, err := tx.Events().Page("", 1, false)
	if err != nil {
		return nil, err
	}
	events, err := tx.Events().Count()
	if err != nil {
		return nil, err
	}
	out := []Compliance{}
	for m, err := range tx.Machines().All() {
		if err != nil {
			return nil, err
		}
		if machine != "" && m.ID != machine {
			continue
		}
		c := Compliance{Machine: m.ID, Name: m.Name, Policy: m.Policy, Threshold: thresholds[m.Policy].Seconds(), Since: later(since, m.Created), Until: now}
		// The log of events is full: what came before its first one is not known.
		if full := events >= store.MaxEvents && len(oldest) > 0; full && oldest[0].Time.After(c.Since) {
			c.Since, c.Partial = oldest[0].Time, true
		}
		var story []store.Event
		for e, err := range tx.EventsOf(m.ID).All() {
			if err != nil {
				return nil, err
			}
			story = append(story, e)
		}
		late := slices.ContainsFunc(m.Health.Findings, func(f store.Finding) bool { return f.Code == "rpo.breached" })
		c.judge(story, late)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Compliance) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// judge goes through the events of a machine, oldest first. late says that the
// objective is not met now.
func (c *Compliance) judge(story []store.Event, late bool) {
	var breach time.Time // since when it is late
	var away time.Time   // since when it is not to be replicated
	gone, longest, sum := time.Duration(0), time.Duration(0), time.Duration(0)
	within := func(from, to time.Time) time.Duration {
		from, to = later(from, c.Since), earlier(to, c.Until)
		return max(0, to.Sub(from))
	}
	end := func(at time.Time) {
		if breach.IsZero() {
			return
		}
		d := within(breach, at)
		if d > 0 {
			c.Breaches++
		}
		sum, longest, breach = sum+d, max(longest, d), time.Time{}
	}
	for _, e := range story {
		switch {
		case e.Code == "rpo.breached" && away.IsZero():
			if breach.IsZero() {
				breach = e.Time
			}
		case e.Code == "rpo.met":
			end(e.Time)
		case e.Code != "job.succeeded":
		case leaves[lifecycle.Verb(e.Args["kind"])]:
			end(e.Time)
			if away.IsZero() {
				away = e.Time
			}
		case returns[lifecycle.Verb(e.Args["kind"])] && !away.IsZero():
			gone, away = gone+within(away, e.Time), time.Time{}
		}
	}
	if late {
		end(c.Until)
	} else if !breach.IsZero() {
		// It ended without a word, with the replication itself: at the last that was
		// heard of the machine.
		end(story[len(story)-1].Time)
	}
	if !away.IsZero() {
		gone += within(away, c.Until)
	}
	observed := max(0, c.Until.Sub(c.Since)-gone)
	c.Observed, c.Late, c.Longest = observed.Seconds(), sum.Seconds(), longest.Seconds()
	if c.Threshold > 0 && observed > 0 {
		met := max(0, 100*(1-sum.Seconds()/observed.Seconds()))
		c.Met = &met
	}
	c.Policy = cmp.Or(c.Policy, "–")
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// leaves are verbs after which nothing is replicated, and returns those after which
// it is again.
var (
	leaves  = map[lifecycle.Verb]bool{lifecycle.PlannedFailover: true, lifecycle.UnplannedFailover: true}
	returns = map[lifecycle.Verb]bool{lifecycle.ReverseReplicate: true, lifecycle.Failback: true}
)
