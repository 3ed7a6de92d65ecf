package view

import "time"

// AuditLog is the page of the audit log.
type AuditLog struct {
	Now     time.Time
	Search  string
	Rows    []AuditRow
	Empty   Empty
	Older   string
	Newest  string
	Verdict *Message // of a verification that was asked for
	Faults  []string // what it found
}

// AuditRow is what somebody asked for and what came of it.
type AuditRow struct {
	ID      string
	Time    time.Time
	Who     string
	Role    string
	Address string
	Action  string
	Object  string
	Detail  string
	Before  string
	After   string
	Outcome Badge
}
