package store

import (
	"fmt"
	"time"
)

// AuditLine is one line of the audit log. Key: its Sequence, in 20 digits. Package
// appliance/audit writes and verifies them.
//
// What somebody asks for is a line before it is done, with the outcome "asked";
// what came of it is a second line, whose Of is the sequence of the first.
type AuditLine struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	Of       uint64    `json:"of,omitempty"`
	Actor    string    `json:"actor,omitempty"` // an account, or "token NAME"; empty: not signed in
	Role     Role      `json:"role,omitempty"`
	Address  string    `json:"address,omitempty"`
	Action   string    `json:"action"`           // "policy.save", "machine.pause", …
	Object   string    `json:"object,omitempty"` // what it is done to
	Detail   string    `json:"detail,omitempty"` // what was asked for, without secrets
	Before   string    `json:"before,omitempty"`
	After    string    `json:"after,omitempty"`
	Outcome  string    `json:"outcome"`
	Key      string    `json:"key"` // names the key of the MAC
	MAC      []byte    `json:"mac"` // HMAC-SHA-256 of the MAC before and of this line without its own
}

// Outcomes of an audit line.
const (
	AuditAsked   = "asked"
	AuditDone    = "done"
	AuditRefused = "refused"
	AuditFailed  = "failed"
)

// AuditReport is what a verification of the audit log found.
type AuditReport struct {
	Lines    int      `json:"lines" doc:"How many were read."`
	First    uint64   `json:"first" doc:"Sequence of the oldest."`
	Last     uint64   `json:"last" doc:"Sequence of the newest."`
	Sound    bool     `json:"sound" doc:"Nothing was found."`
	Findings []string `json:"findings" nullable:"false"`
}

// AuditKey is the key of a line.
func AuditKey(sequence uint64) string { return fmt.Sprintf("%020d", sequence) }
