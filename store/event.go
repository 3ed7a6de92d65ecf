package store

import "time"

// Event is something that happened and that a person may want to know. Key: its
// ID, which sorts by time.
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

// AddEvent writes e. It fills in the Time (now) and the ID when they are missing.
func (tx *Tx) AddEvent(e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	if e.ID == "" {
		e.ID = NewID(e.Time)
	}
	return tx.Events().Put(e)
}
