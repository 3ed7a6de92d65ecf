package web

import (
	"math"
	"slices"
	"time"

	"riparo/replication/lifecycle"
	"riparo/replication/report"
	"riparo/store"
)

// survey is what the overview has to say, before it is said in a language.
type survey struct {
	records
	summary
	report Report
	now    time.Time
	needy  []needyMachine
	limit  float64 // the strictest RPO threshold, in seconds; 0: there is none
	curves curves
}

// needyMachine is a machine that may need attention: its findings decide.
type needyMachine struct {
	machine *store.Machine
	late    bool // its RPO is above the threshold
}

// summary is what the overview counts.
type summary struct {
	total, needy   int // machines; those that need attention
	protected      int // those that have a point and can fail over now
	elsewhere      int // those that run on their replica
	worst          *store.Machine
	worstAge       time.Duration
	unknown        int // machines whose RPO should be known and is not
	tested         int // with a passed test failover in the last six months
	drillDue       int
	late, critical int
}

// survey looks at all machines. What live pages say at one telling is one survey, in
// whatever language: it is shared, and nobody changes it.
func (k *Console) survey(v visit) (survey, error) {
	if v.fresh.IsZero() {
		return k.surveyed(v)
	}
	g := &k.glance
	g.surveying.Lock()
	defer g.surveying.Unlock()
	if !g.surveys.Before(v.fresh) {
		return g.survey, nil
	}
	began := time.Now()
	s, err := k.surveyed(v)
	if err == nil {
		g.surveys, g.survey = began, s
	}
	return s, err
}

func (k *Console) surveyed(v visit) (survey, error) {
	r, err := k.records()
	if err != nil {
		return survey{}, err
	}
	s := survey{records: r, report: k.report(v)}
	if s.now = s.report.Time; s.now.IsZero() {
		s.now = v.now
	}
	s.total = len(r.machines)
	histories := make([][]float64, 0, len(r.machines))
	for i := range r.machines {
		m := &r.machines[i]
		mr := s.report.Machines[m.ID]
		s.count(m, mr)
		if !counted(*m) {
			continue
		}
		histories = append(histories, mr.RPO)
		if t := r.policies[m.Policy].RPOThreshold.Seconds(); t > 0 && (s.limit == 0 || t < s.limit) {
			s.limit = t
		}
	}
	s.curves = k.glance.curvesOf(histories)
	return s, nil
}

// count adds a machine to what is counted.
func (s *survey) count(m *store.Machine, mr MachineReport) {
	age, known := rpo(*m, mr, s.now)
	late := counted(*m) && s.records.late(*m, age, known)
	if late {
		s.summary.late++
	}
	if m.Health.Level == store.Critical {
		s.critical++
	}
	if needy(*m, late) {
		s.summary.needy++
	}
	if needy(*m, late) || len(m.Health.Findings) > 0 {
		s.needy = append(s.needy, needyMachine{m, late})
	}
	if known && counted(*m) {
		s.protected++
		if s.worst == nil || age > s.worstAge {
			s.worst, s.worstAge = m, age
		}
	}
	if !known && counted(*m) {
		s.unknown++
	}
	if m.Failover != nil {
		s.elsewhere++
	}
	switch d := m.LastDrill; {
	case d != nil && d.Passed && s.now.Sub(d.Finished) <= lifecycle.DrillInterval:
		s.tested++
	case counted(*m):
		s.drillDue++
	}
}

func needy(m store.Machine, late bool) bool {
	return late || m.Health.Level == store.Warning || m.Health.Level == store.Critical || m.Drill == lifecycle.DrillUnhealthy ||
		m.State == lifecycle.CommitPending || m.State == lifecycle.ResyncRequired
}

// curves are the worst RPO of all machines at each instant, and the one in the middle.
type curves struct {
	histories     [][]float64 // what they were made of
	worst, middle []float64
}

// curvesOf gives the curves of histories. A history moves with each sample of the report
// and not in between: until then they are those that were made last.
func (g *glance) curvesOf(histories [][]float64) curves {
	g.mu.Lock()
	defer g.mu.Unlock()
	same := slices.EqualFunc(g.curves.histories, histories, func(a, b []float64) bool {
		return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
	})
	if !same {
		g.curves = drawn(histories)
	}
	return g.curves
}

func drawn(histories [][]float64) curves {
	worst, middle := make([]float64, report.HistorySamples), make([]float64, report.HistorySamples)
	longest := 0
	sample := make([]float64, 0, len(histories))
	for back := range report.HistorySamples {
		sample = sample[:0]
		for _, h := range histories {
			if i := len(h) - 1 - back; i >= 0 {
				longest = max(longest, back+1)
				if h[i] < 0 { // unknown is worse than anything known
					sample = append(sample, math.Inf(1))
					continue
				}
				sample = append(sample, h[i])
			}
		}
		i := report.HistorySamples - 1 - back
		worst[i], middle[i] = math.NaN(), math.NaN()
		if len(sample) > 0 {
			worst[i], middle[i] = slices.Max(sample), middleOf(sample)
		}
	}
	first := report.HistorySamples - longest
	return curves{histories: histories, worst: worst[first:], middle: middle[first:]}
}

// middleOf gives the element that would stand in the middle if of was sorted, and moves
// its elements. Of a thousand machines at each of 360 instants, sorting would be most of
// the work of the page.
func middleOf(of []float64) float64 {
	k := len(of) / 2
	for low, high := 0, len(of)-1; low < high; {
		pivot := of[low+(high-low)/2]
		i, j := low, high
		for i <= j {
			for of[i] < pivot {
				i++
			}
			for of[j] > pivot {
				j--
			}
			if i <= j {
				of[i], of[j] = of[j], of[i]
				i, j = i+1, j-1
			}
		}
		switch { // what is left of i is at most the pivot, right of j at least
		case k <= j:
			high = j
		case k >= i:
			low = i
		default:
			return of[k]
		}
	}
	return of[k]
}
