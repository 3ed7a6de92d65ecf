package report_test

import (
	"slices"
	"testing"

	"riparo/replication/report"
)

// TestAHistoryIsNeverChangedInPlace: who looks at one sees what it was, however many
// samples come after.
func TestAHistoryIsNeverChangedInPlace(t *testing.T) {
	var history []float64
	var seen, copies [][]float64
	for i := range 2 * report.HistorySamples {
		history = report.Append(history, float64(i))
		seen, copies = append(seen, history), append(copies, slices.Clone(history))
	}
	for i := range seen {
		if !slices.Equal(seen[i], copies[i]) {
			t.Fatalf("the history of sample %d was changed: got %v, want %v", i, seen[i], copies[i])
		}
	}
	if len(history) != report.HistorySamples || history[0] != report.HistorySamples || history[len(history)-1] != 2*report.HistorySamples-1 {
		t.Errorf("after %d samples it has %d, from %v to %v: want the last %d", 2*report.HistorySamples, len(history), history[0], history[len(history)-1], report.HistorySamples)
	}
}
