package api

import (
	"cmp"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
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

// Codes of the events that a judgment goes by.
const (
	breached  = "rpo.breached"
	met       = "rpo.met"
	succeeded = "job.succeeded"
)

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// judge goes through the events of a machine, oldest first. late says that the
// objective is not met now.
func (c *Compliance) judge(story []heard, late bool) {
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
		case e.code == breached && away.IsZero():
			if breach.IsZero() {
				breach = e.at
			}
		case e.code == met:
			end(e.at)
		case leaves[e.kind]:
			end(e.at)
			if away.IsZero() {
				away = e.at
			}
		case returns[e.kind] && !away.IsZero():
			gone, away = gone+within(away, e.at), time.Time{}
		}
	}
	if late {
		end(c.Until)
	} else if !breach.IsZero() {
		// It ended without a word, with the replication itself: at the last that was
		// heard of the machine.
		end(story[len(story)-1].at)
	}
	if !away.IsZero() {
		gone += within(away, c.Until)
	}
	observed := max(0, c.Until.Sub(c.Since)-gone)
	c.Observed, c.Late, c.Longest = observed.Seconds(), sum.Seconds(), longest.Seconds()
	if c.Threshold > 0 && observed > 0 {
		share := max(0, 100*(1-sum.Seconds()/observed.Seconds()))
		c.Met = &share
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
