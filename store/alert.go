package store

import "time"

// Alert is something that is not as it should be, from when it was seen until it was
// seen no more. Key: its ID, which sorts by time.
type Alert struct {
	ID string `json:"id"`
	// Kind says what, and Subject of what: a machine's ID, the name of a site, a job.
	// There is at most one alert of a kind and subject that has not ended.
	Kind     string            `json:"kind"` // "rpo.breached", "site.away", …
	Subject  string            `json:"subject,omitempty"`
	Severity string            `json:"severity"` // as of an Event
	Machine  string            `json:"machine,omitempty"`
	Name     string            `json:"name,omitempty"` // of the subject, for people
	Args     map[string]string `json:"args,omitempty"` // what the words of the kind need
	Cause    string            `json:"cause,omitempty"`
	Effect   string            `json:"effect,omitempty"`
	Action   string            `json:"action,omitempty"`
	Since    time.Time         `json:"since"`
	Ended    time.Time         `json:"ended,omitzero"`
	// Told is when people were last told of it.
	Told time.Time `json:"told,omitzero"`
}

// Delivery is a message on its way to one recipient. Key: its ID, which the message
// carries: a recipient that got it twice can tell.
type Delivery struct {
	ID       string    `json:"id"`
	Channel  string    `json:"channel"` // "mail:ADDRESS", "hook:ID"
	Test     bool      `json:"test,omitempty"`
	Items    []Item    `json:"items,omitempty"`
	More     int       `json:"more,omitempty"` // items that did not find room
	Created  time.Time `json:"created"`
	NextTry  time.Time `json:"next_try"`
	Attempts int       `json:"attempts,omitempty"`
	Sent     time.Time `json:"sent,omitzero"`
	GivenUp  time.Time `json:"given_up,omitzero"`
	Problem  *Finding  `json:"problem,omitempty"` // of the last attempt
}

// Item is what a message tells of one alert.
type Item struct {
	What  string `json:"what"`  // raised, reminded, ended
	Alert Alert  `json:"alert"` // as it was then
}

// What an Item tells.
const (
	AlertRaised   = "raised"
	AlertReminded = "reminded"
	AlertEnded    = "ended"
)

// Bounds on alerts that have ended, and on messages that went out.
const (
	MaxAlerts     = 10_000
	MaxDeliveries = 2_000
)

// Waiting reports whether the message has still to go out.
func (d *Delivery) Waiting() bool { return d.Sent.IsZero() && d.GivenUp.IsZero() }

// Alerts and Deliveries are what the notifications keep.
var (
	Alerts = &Kind[Alert]{name: "alerts", topic: "alert", limit: MaxAlerts,
		key:   func(a *Alert) string { return a.ID },
		spare: func(a *Alert) bool { return a.Ended.IsZero() },
		indexes: []index[Alert]{
			{"alerts.active", func(a *Alert) (string, bool) { return "", a.Ended.IsZero() }},
		}}

	Deliveries = &Kind[Delivery]{name: "deliveries", topic: "delivery", limit: MaxDeliveries,
		key:   func(d *Delivery) string { return d.ID },
		spare: func(d *Delivery) bool { return d.Waiting() },
		indexes: []index[Delivery]{
			{"deliveries.waiting", func(d *Delivery) (string, bool) { return "", d.Waiting() }},
		}}
)

func (tx *Tx) Alerts() Table[Alert]        { return Alerts.in(tx) }
func (tx *Tx) Deliveries() Table[Delivery] { return Deliveries.in(tx) }

// ActiveAlerts are those that have not ended, oldest first.
func (tx *Tx) ActiveAlerts() Range[Alert] { return Alerts.by(tx, "alerts.active", "") }

// WaitingDeliveries are the messages that have still to go out, oldest first.
func (tx *Tx) WaitingDeliveries() Range[Delivery] {
	return Deliveries.by(tx, "deliveries.waiting", "")
}
