package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Chart is a line chart over time, drawn as SVG by the server. Positions are in
// percent of the plot, so that it takes any width while its text keeps its size.
type Chart struct {
	ID          string
	Title       string
	Description string // says what the chart shows, for those who do not see it
	Series      []Series
	Limits      []Mark
	Y, X        []Mark
	Table       ChartTable
	Unknown     []Band // stretches of time of which nothing is known
	Empty       string // instead of a chart
}

// Series is one line. A gap in what is known is a gap in the line.
type Series struct {
	Name  string
	Class string // one, two, three, …
	Lines []string
	Area  string
	Last  string // the newest value, in words
}

// Mark is a labeled position in percent.
type Mark struct{ At, Label string }

// Band is a stretch in percent.
type Band struct{ From, Width string }

// ChartTable is the same in figures.
type ChartTable struct {
	Head []string
	Rows [][]string
}

// Values is one series to be drawn: a negative, infinite or NaN sample is
// unknown.
type Values struct {
	Name, Class string
	Samples     []float64
}

// Plot tells how samples become a chart.
type Plot struct {
	ID, Title string
	Now       time.Time // of the newest sample
	Every     time.Duration
	Span      int // samples that the width shows
	Log       bool
	Limit     float64 // 0: none
	LimitName string
	Format    func(float64) string
	Ticks     []float64 // candidates for a logarithmic axis
	Area      bool
	Empty     string
}

// Spans are how many samples a plot of a history may show: the shortest that holds
// what there is. A young history is not a speck at the right end.
var spans = []int{30, 90, 180, 360}

// SpanFor is the span of a plot for so many samples.
func SpanFor(samples int) int {
	for _, s := range spans {
		if samples <= s {
			return s
		}
	}
	return spans[len(spans)-1]
}

// plotTop leaves room above the highest value.
const plotTop = 4.0

// Draw makes a chart of values.
func Draw(w *Words, p Plot, values ...Values) Chart {
	c := Chart{ID: p.ID, Title: p.Title}
	lowest, highest, known := math.Inf(1), math.Inf(-1), 0
	for _, v := range values {
		for _, s := range tail(v.Samples, p.Span) {
			if unknown(s) {
				continue
			}
			known++
			lowest, highest = min(lowest, s), max(highest, s)
		}
	}
	if known == 0 {
		c.Empty = p.Empty
		return c
	}
	if p.Limit > 0 {
		highest = max(highest, p.Limit)
	}
	scale := newScale(p, lowest, highest)
	for _, tick := range scale.ticks {
		c.Y = append(c.Y, Mark{percent(scale.at(tick)), p.Format(tick)})
	}
	if p.Limit > 0 {
		c.Limits = []Mark{{percent(scale.at(p.Limit)), p.LimitName}}
	}
	c.X = timeMarks(w, p)
	for _, v := range values {
		c.Series = append(c.Series, drawSeries(p, scale, v))
	}
	if len(values) > 0 {
		c.Unknown = gaps(p, values[0])
	}
	c.Table = chartTable(w, p, values)
	c.Description = describe(w, p, values)
	return c
}

func unknown(s float64) bool { return s < 0 || math.IsNaN(s) || math.IsInf(s, 1) }

func tail(samples []float64, n int) []float64 {
	if len(samples) > n {
		return samples[len(samples)-n:]
	}
	return samples
}

func percent(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) + "%"
}

// scale maps values to percent from the top.
type scale struct {
	log       bool
	low, high float64
	ticks     []float64
}

func newScale(p Plot, lowest, highest float64) scale {
	if p.Log {
		s := scale{log: true, low: max(lowest*0.8, 0.5), high: max(highest*1.25, 2)}
		for _, t := range p.Ticks {
			if t >= s.low && t <= s.high {
				s.ticks = append(s.ticks, t)
			}
		}
		for len(s.ticks) > 5 { // every second one, so that labels do not touch
			var thinner []float64
			for i := len(s.ticks) - 1; i >= 0; i -= 2 {
				thinner = append([]float64{s.ticks[i]}, thinner...)
			}
			s.ticks = thinner
		}
		return s
	}
	step := niceStep(max(highest, 1) / 4)
	s := scale{high: math.Ceil(max(highest, step)/step) * step}
	for v := 0.0; v <= s.high+step/2; v += step {
		s.ticks = append(s.ticks, v)
	}
	return s
}

// niceStep is the smallest of 1, 2, 4, 8 × 1024^n and their kin that is not below
// v: the figures are bytes.
func niceStep(v float64) float64 {
	unit := 1.0
	for v > 512*unit {
		unit *= 1024
	}
	step := unit
	for step < v {
		step *= 2
	}
	return step
}

func (s scale) at(v float64) float64 {
	share := (v - s.low) / (s.high - s.low)
	if s.log {
		share = math.Log(max(v, s.low)/s.low) / math.Log(s.high/s.low)
	}
	return plotTop + (100-plotTop)*(1-min(max(share, 0), 1))
}

// x is the position of sample i of n, the newest at the right end.
func (p Plot) x(i, n int) float64 {
	return 100 - float64(n-1-i)*100/float64(max(p.Span-1, 1))
}

func drawSeries(p Plot, s scale, v Values) Series {
	series := Series{Name: v.Name, Class: v.Class}
	samples := tail(v.Samples, p.Span)
	var line strings.Builder
	end := func() {
		if line.Len() > 0 {
			series.Lines = append(series.Lines, strings.TrimSpace(line.String()))
			line.Reset()
		}
	}
	for i, sample := range samples {
		if unknown(sample) {
			end()
			continue
		}
		fmt.Fprintf(&line, "%.2f,%.2f ", p.x(i, len(samples)), s.at(sample))
	}
	end()
	if p.Area && len(series.Lines) == 1 && len(samples) > 1 {
		first, _, _ := strings.Cut(series.Lines[0], ",")
		series.Area = first + ",100 " + series.Lines[0] + " 100,100"
	}
	if n := len(samples); n > 0 && !unknown(samples[n-1]) {
		series.Last = p.Format(samples[n-1])
	}
	return series
}

// gaps are the stretches without a known sample, inside of what was sampled.
func gaps(p Plot, v Values) []Band {
	samples := tail(v.Samples, p.Span)
	var bands []Band
	for i := 0; i < len(samples); i++ {
		if !unknown(samples[i]) {
			continue
		}
		from := i
		for i < len(samples) && unknown(samples[i]) {
			i++
		}
		left, right := p.x(max(from-1, 0), len(samples)), p.x(min(i, len(samples)-1), len(samples))
		bands = append(bands, Band{percent(left), percent(right - left)})
	}
	return bands
}

// timeMarks are four instants below the plot.
func timeMarks(w *Words, p Plot) []Mark {
	var marks []Mark
	whole := time.Duration(p.Span-1) * p.Every
	for _, share := range []float64{0.02, 0.25, 0.5, 0.75} {
		at := p.Now.Add(-time.Duration((1 - share) * float64(whole)))
		marks = append(marks, Mark{percent(share * 100), w.Clock(at)})
	}
	return marks
}

// chartRows bounds the table beside a chart: one row per five minutes of an hour.
const chartRows = 12

func chartTable(w *Words, p Plot, values []Values) ChartTable {
	table := ChartTable{Head: []string{w.T("time")}}
	for _, v := range values {
		table.Head = append(table.Head, v.Name)
	}
	step := max(1, p.Span/chartRows)
	for back := 0; back < p.Span; back += step {
		row := []string{w.Clock(p.Now.Add(-time.Duration(back) * p.Every))}
		any := false
		for _, v := range values {
			i := len(v.Samples) - 1 - back
			if i < 0 || unknown(v.Samples[i]) {
				row = append(row, w.T("unknown"))
				any = any || i >= 0
				continue
			}
			any = true
			row = append(row, p.Format(v.Samples[i]))
		}
		if any {
			table.Rows = append(table.Rows, row)
		}
	}
	return table
}

func describe(w *Words, p Plot, values []Values) string {
	var parts []string
	for _, v := range values {
		lowest, highest := math.Inf(1), math.Inf(-1)
		for _, s := range tail(v.Samples, p.Span) {
			if !unknown(s) {
				lowest, highest = min(lowest, s), max(highest, s)
			}
		}
		if highest >= lowest {
			parts = append(parts, w.T("chart.range", "Name", v.Name, "Low", p.Format(lowest), "High", p.Format(highest)))
		}
	}
	return strings.Join(parts, " ")
}

// Spark is a line without axes, 100 by 24.
func Spark(samples []float64) string {
	samples = tail(samples, 60)
	highest := 0.0
	for _, s := range samples {
		highest = max(highest, s)
	}
	if highest == 0 || len(samples) < 2 {
		return ""
	}
	var b strings.Builder
	for i, s := range samples {
		if unknown(s) {
			continue
		}
		fmt.Fprintf(&b, "%.1f,%.1f ", float64(i)*100/float64(len(samples)-1), 23-s/highest*21)
	}
	return strings.TrimSpace(b.String())
}
