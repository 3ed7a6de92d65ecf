package store

import (
	"strings"

	"riparo/replication"
)

// Kind is one kind of record: its bucket, its key rule and its indexes.
type Kind[T any] struct {
	name    string // of the bucket
	key     func(*T) string
	lower   bool   // keys are compared in lower case
	topic   string // what subscribers are told: topic/KEY
	single  bool   // they are told the topic alone
	indexes []index[T]
	limit   int           // most records; 0 is no bound
	spare   func(*T) bool // records that the bound leaves alone
}

// index finds records by a value. Its entries are value, NUL, key.
type index[T any] struct {
	name  string // of the bucket
	value func(*T) (value string, indexed bool)
}

func (ix *index[T]) entry(v *T, key string) string {
	value, indexed := ix.value(v)
	if !indexed {
		return ""
	}
	return value + "\x00" + key
}

// Bounds on what grows by itself. Beyond them the oldest give way.
const (
	// MaxEvents: at 400 bytes each some 20 MB, and more than a month of an
	// appliance that reports one event a minute.
	MaxEvents = 50_000
	// MaxJobs: at 2 KB each some 20 MB. A job that has not ended never gives way.
	MaxJobs = 10_000
	// MaxApprovals: one that waits never gives way.
	MaxApprovals = 1_000
)

// The kinds of records.
var (
	Machines = &Kind[Machine]{name: "machines", topic: "machine", key: func(m *Machine) string { return string(m.ID) }}

	Jobs = &Kind[Job]{name: "jobs", topic: "job", limit: MaxJobs,
		key:   func(j *Job) string { return j.ID },
		spare: func(j *Job) bool { return !j.State.Ended() },
		indexes: []index[Job]{
			{"jobs.machine", func(j *Job) (string, bool) { return j.Machine, j.Machine != "" }},
			{"jobs.state", func(j *Job) (string, bool) { return string(j.State), true }},
			{"jobs.unfinished", func(j *Job) (string, bool) { return j.Machine, !j.State.Ended() }},
		}}

	Events = &Kind[Event]{name: "events", topic: "event", single: true, limit: MaxEvents,
		key: func(e *Event) string { return e.ID },
		indexes: []index[Event]{
			{"events.machine", func(e *Event) (string, bool) { return e.Machine, e.Machine != "" }},
			{"events.severity", func(e *Event) (string, bool) { return e.Severity, true }},
		}}

	Sites     = &Kind[Site]{name: "sites", topic: "site", key: func(s *Site) string { return s.Name }}
	Policies  = &Kind[Policy]{name: "policies", topic: "policy", key: func(p *Policy) string { return p.Name }}
	Approvals = &Kind[Approval]{name: "approvals", topic: "approval", limit: MaxApprovals,
		key:   func(a *Approval) string { return a.ID },
		spare: func(a *Approval) bool { return a.State == ApprovalWaiting }}
	Keeping  = &Kind[Kept]{name: "kept", topic: "kept", key: func(k *Kept) string { return string(k.ID) }}
	Exports  = &Kind[Export]{name: "exports", topic: "export", key: func(e *Export) string { return e.Name }}
	Users    = &Kind[User]{name: "users", topic: "user", lower: true, key: func(u *User) string { return u.Name }}
	Tokens   = &Kind[Token]{name: "tokens", topic: "token", key: func(t *Token) string { return t.ID }}
	Sessions = &Kind[Session]{name: "sessions", key: func(s *Session) string { return s.ID }}
	Requests = &Kind[Answered]{name: "requests", key: func(a *Answered) string { return a.ID }}
	Settings = &Kind[Setting]{name: "settings", topic: "setting", key: func(s *Setting) string { return s.Name }}

	// Audit has no limit of its own: package appliance/audit removes the oldest lines
	// and signs where the log begins.
	Audit = &Kind[AuditLine]{name: "audit", topic: "audit", single: true, key: func(l *AuditLine) string { return AuditKey(l.Sequence) }}
)

// kinds are all of them, for what concerns every record.
var kinds = []anyKind{Machines, Jobs, Events, Sites, Policies, Exports, Users, Tokens, Sessions, Settings, Audit, Alerts, Deliveries, Approvals, Requests, Keeping}

// anyKind is a kind whatever its type of record.
type anyKind interface {
	buckets() (records string, indexes []string)
	checkTexts(tx *Tx) []string
	checkRecords(tx *Tx) []string
}

func (k *Kind[T]) in(tx *Tx) Table[T] { return Table[T]{Range[T]{tx: tx, kind: k}} }

func (k *Kind[T]) fold(key string) string {
	if k.lower {
		return strings.ToLower(key)
	}
	return key
}

func (k *Kind[T]) keyOf(v *T) string { return k.fold(k.key(v)) }

func (k *Kind[T]) changed(key string) string {
	if k.single || k.topic == "" {
		return k.topic
	}
	return k.topic + "/" + key
}

func (k *Kind[T]) buckets() (string, []string) {
	var names []string
	for _, ix := range k.indexes {
		names = append(names, ix.name)
	}
	return k.name, names
}

// by gives the records that an index lists under value.
func (k *Kind[T]) by(tx *Tx, name, value string) Range[T] {
	for i := range k.indexes {
		if k.indexes[i].name == name {
			return Range[T]{tx: tx, kind: k, index: &k.indexes[i], value: value}
		}
	}
	return Range[T]{tx: tx, kind: k, index: &index[T]{name: name}, value: value} // not reached: names are written in this package
}

func (tx *Tx) Machines() Table[Machine]   { return Machines.in(tx) }
func (tx *Tx) Jobs() Table[Job]           { return Jobs.in(tx) }
func (tx *Tx) Events() Table[Event]       { return Events.in(tx) }
func (tx *Tx) Sites() Table[Site]         { return Sites.in(tx) }
func (tx *Tx) Policies() Table[Policy]    { return Policies.in(tx) }
func (tx *Tx) Approvals() Table[Approval] { return Approvals.in(tx) }
func (tx *Tx) Kept() Table[Kept]          { return Keeping.in(tx) }
func (tx *Tx) Exports() Table[Export]     { return Exports.in(tx) }
func (tx *Tx) Users() Table[User]         { return Users.in(tx) }
func (tx *Tx) Tokens() Table[Token]       { return Tokens.in(tx) }
func (tx *Tx) Sessions() Table[Session]   { return Sessions.in(tx) }
func (tx *Tx) Settings() Table[Setting]   { return Settings.in(tx) }
func (tx *Tx) Audit() Table[AuditLine]    { return Audit.in(tx) }

// JobsOf are the jobs of a machine, oldest first.
func (tx *Tx) JobsOf(machine replication.MachineID) Range[Job] {
	return Jobs.by(tx, "jobs.machine", string(machine))
}

// JobsIn are the jobs in a state, oldest first.
func (tx *Tx) JobsIn(state JobState) Range[Job] {
	return Jobs.by(tx, "jobs.state", string(state))
}

// UnfinishedJobs are the jobs of a machine that have not ended. There is at most
// one, except for the machine "", which stands for jobs that concern none.
func (tx *Tx) UnfinishedJobs(machine replication.MachineID) Range[Job] {
	return Jobs.by(tx, "jobs.unfinished", string(machine))
}

// EventsOf are the events of a machine, oldest first.
func (tx *Tx) EventsOf(machine replication.MachineID) Range[Event] {
	return Events.by(tx, "events.machine", string(machine))
}

// EventsBy are the events of a severity, oldest first.
func (tx *Tx) EventsBy(severity string) Range[Event] {
	return Events.by(tx, "events.severity", severity)
}
