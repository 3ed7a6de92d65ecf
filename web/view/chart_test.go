package view

import (
	"math"
	"strings"
	"testing"
	"time"
)

func plot(log bool) Plot {
	return Plot{ID: "c", Title: "RPO", Now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), Every: 10 * time.Second, Span: 7, Log: log,
		Ticks: []float64{1, 10, 60, 300, 900, 3600}, Format: func(v float64) string { return time.Duration(v * float64(time.Second)).String() }, Empty: "nothing yet"}
}

func TestAnUnknownSampleIsAGapAndNotAZero(t *testing.T) {
	w := catalog(t).Words("en", nil)
	c := Draw(w, plot(true), Values{Name: "web01", Class: "one", Samples: []float64{5, 6, -1, math.NaN(), math.Inf(1), 9, 12}})
	if len(c.Series) != 1 || len(c.Series[0].Lines) != 2 {
		t.Fatalf("got %+v: want a line before the gap and one after it", c.Series)
	}
	if len(c.Unknown) != 1 || c.Unknown[0].From == "0%" {
		t.Errorf("the gap is %+v: want one band", c.Unknown)
	}
	if c.Series[0].Last != "12s" {
		t.Errorf("the newest value is %q, want 12s", c.Series[0].Last)
	}
	found := false
	for _, row := range c.Table.Rows {
		found = found || row[1] == "unknown"
	}
	if !found {
		t.Errorf("the table does not say unknown: %v", c.Table.Rows)
	}
	if strings.Contains(c.Description, "from 0s") || !strings.Contains(c.Description, "from 5s to 12s") {
		t.Errorf("the description is %q", c.Description)
	}
}

func TestAChartOfNothingSaysSo(t *testing.T) {
	w := catalog(t).Words("en", nil)
	for _, samples := range [][]float64{nil, {}, {-1, -1}} {
		if c := Draw(w, plot(true), Values{Samples: samples}); c.Empty != "nothing yet" {
			t.Errorf("samples %v: %+v", samples, c)
		}
	}
	if c := Draw(w, plot(false)); c.Empty == "" {
		t.Error("a chart without series")
	}
}

func TestTheLimitIsInsideTheChart(t *testing.T) {
	w := catalog(t).Words("en", nil)
	p := plot(true)
	p.Limit, p.LimitName = 900, "threshold"
	c := Draw(w, p, Values{Samples: []float64{5, 5, 5}})
	if len(c.Limits) != 1 || strings.HasPrefix(c.Limits[0].At, "-") {
		t.Errorf("the limit is at %+v", c.Limits)
	}
	for _, tick := range c.Y {
		if strings.HasPrefix(tick.At, "-") || len(c.Y) > 5 {
			t.Errorf("ticks %+v", c.Y)
		}
	}
}

func TestBytesHaveRoundSteps(t *testing.T) {
	for v, want := range map[float64]float64{1: 1, 3: 4, 500: 512, 700: 1024, 3 << 20: 4 << 20, 600 << 20: 1 << 30} {
		if got := niceStep(v); got != want {
			t.Errorf("niceStep(%g) = %g, want %g", v, got, want)
		}
	}
}

func TestOneSampleIsEnoughForAChart(t *testing.T) {
	w := catalog(t).Words("it", nil)
	for _, log := range []bool{true, false} {
		for _, v := range []float64{0, 1, 1e12} {
			c := Draw(w, plot(log), Values{Samples: []float64{v}})
			if len(c.Series) != 1 || strings.Contains(c.Series[0].Lines[0], "NaN") {
				t.Errorf("a sample of %g (log %v): %+v", v, log, c.Series)
			}
		}
	}
	if Spark([]float64{0, 0}) != "" || Spark([]float64{1}) != "" || Spark([]float64{1, -1, 2}) == "" {
		t.Error("a spark of nothing is drawn, or one of something is not")
	}
}
