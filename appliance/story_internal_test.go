package appliance

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"riparo/store"
	"riparo/store/storetest"
)

// TestTheLogTellsWhatHappensAfterTheClockWasSetBack: whoever follows events looks behind
// the last one, and that is of a time to come.
func TestTheLogTellsWhatHappensAfterTheClockWasSetBack(t *testing.T) {
	st := storetest.Open(t)
	var log bytes.Buffer
	a := &Appliance{store: st, log: slog.New(slog.NewTextHandler(&log, nil))}
	now := time.Now()
	happens := func(e store.Event) {
		t.Helper()
		e.Severity, e.Code = store.SeverityInfo, "site.added"
		if err := st.Update(func(tx *store.Tx) error { return tx.AddEvent(e) }); err != nil {
			t.Fatal(err)
		}
	}
	happens(store.Event{Time: now.Add(240 * time.Hour), Text: "when the clock was ahead"})
	if err := a.newestEvent(); err != nil {
		t.Fatal(err)
	}
	happens(store.Event{Time: now, Text: "after it was set back"})
	happens(store.Event{ID: store.NewID(now), Time: now, Text: "with an ID of its own"})
	if err := a.tell(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"when the clock was ahead": false, "after it was set back": true, "with an ID of its own": true} {
		if got := strings.Contains(log.String(), text); got != want {
			t.Errorf("what happened %q is in the log: %v, want %v\n%s", text, got, want, log.String())
		}
	}
}
