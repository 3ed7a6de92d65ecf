package store

import "time"

// Event is something that happened and that a person may want to know. Key: its
// ID, which sorts by when it was written.
type Event struct {
	ID       string            `json:"id"`
	Time     time.Time         `json:"time"`
	Severity string            `json:"severity"` // info, warning, critical
	Code     string            `json:"code"`     // "rpo.breached", "job.failed", …
	Machine  string            `json:"machine,omitempty"`
	Name     string            `json:"name,omitempty"` // of the machine, for people
	Job      string            `json:"job,omitempty"`
	Text     string            `json:"text"` // in English; the console translates by Code and Args
	Args     map[string]string `json:"args,omitempty"`
	Action   string            `json:"action,omitempty"`
}

// The severities of an event.
const (
	SeverityInfo     = "info"
	SeverityWarning  = "warning"
	SeverityCritical = "critical"
)

// AddEvent writes e behind all events there are. It fills in the Time (now) when it is
// missing, and the ID when it is missing or would not sort behind them: whoever follows
// the events looks for those after the last one, and the clock may have been set back.
func (tx *Tx) AddEvent(e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	newest, err := tx.Events().step("", true)
	if err != nil {
		return err
	}
	if e.ID <= newest {
		e.ID = NewIDAfter(e.Time, newest)
	}
	return tx.Events().Put(e)
}
