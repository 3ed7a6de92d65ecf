package replication

import (
	"errors"
	"fmt"
)

// Remedy is what the machinery does about a failure without being told. The one
// who knows the failure chooses it; the job engine obeys.
type Remedy int

const (
	// Retry: it may pass by itself (network, space, a busy peer). Source of the
	// waiting times: seed, "1, 2, 4, 8, 10, then every 30 minutes".
	Retry Remedy = iota
	// Resync: what both ends believe about each other cannot be trusted any more;
	// compare by checksum and go on.
	Resync
	// Stop: only a person can mend it (authentication, authorization, an invalid
	// replica, a newer owner). Health becomes critical.
	Stop
)

func (r Remedy) String() string {
	return [...]string{"retry", "resynchronize", "stop"}[r]
}

// Problem is an error for the person who has to act: what happened and to what,
// what that means, and what to do next. Its text is those three as sentences.
type Problem struct {
	Code   string // stable, for programs and translations. Example: "vault.full"
	Cause  string // "the file /srv/a.raw cannot be opened: permission denied"
	Effect string // "nothing was replicated"
	Action string // "run as a user who may read it, or change its owner"
	Remedy Remedy
	Err    error // what was returned below; may be nil
}

func (p *Problem) Error() string {
	text := p.Cause
	if p.Effect != "" {
		text += "; " + p.Effect
	}
	if p.Action != "" {
		text += "; " + p.Action
	}
	return text
}

func (p *Problem) Unwrap() error { return p.Err }

// AsProblem gives the problem that err carries. An error without one becomes a
// problem whose cause is its text, to be retried.
func AsProblem(err error) *Problem {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		if err == error(p) {
			return p
		}
		outer := *p
		outer.Cause = contextOf(err, p) + p.Cause
		return &outer
	}
	remedy := Retry
	if errors.Is(err, ErrStaleEpoch) {
		remedy = Stop
	}
	return &Problem{Code: "internal", Cause: err.Error(), Remedy: remedy, Err: err}
}

// contextOf is what callers wrapped around the problem: "replicate web01: ".
func contextOf(err error, p *Problem) string {
	whole, inner := err.Error(), p.Error()
	if n := len(whole) - len(inner); n > 0 && whole[n:] == inner {
		return whole[:n]
	}
	return ""
}

// RemedyFor tells what to do about err: the remedy of the problem it carries.
func RemedyFor(err error) Remedy { return AsProblem(err).Remedy }

// Stopf is a problem that only a person can mend, without more to say than its text.
func Stopf(code, action, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Problem{Code: code, Cause: err.Error(), Action: action, Remedy: Stop, Err: errors.Unwrap(err)}
}
