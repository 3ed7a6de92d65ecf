package jobs

import (
	"cmp"
	"fmt"
	"time"

	"riparo/replication"
	"riparo/store"
)

// The codes of the events that jobs leave in the store.
const (
	EventStarted   = "job.started"
	EventRetrying  = "job.retrying" // after the first failure, not after each
	EventWaiting   = "job.waiting"
	EventSucceeded = "job.succeeded"
	EventFailed    = "job.failed"
	EventCanceled  = "job.canceled"
)

func started(d *Definition, job *store.Job) store.Event {
	e := event(d.title(), job, EventStarted, store.SeverityInfo)
	e.Text += " started"
	if job.Actor != "" {
		e.Args["actor"] = job.Actor
		e.Text += " by " + job.Actor
	}
	return e
}

func retrying(title string, job *store.Job, step string) store.Event {
	e := event(title, job, EventRetrying, store.SeverityWarning)
	e.Args["step"], e.Args["next"] = step, job.NextTry.Format(time.RFC3339)
	explain(&e, job)
	e.Text += fmt.Sprintf(" waits at “%s”: %s", step, job.Error.Cause)
	return e
}

func waiting(title string, job *store.Job) store.Event {
	e := event(title, job, EventWaiting, store.SeverityWarning)
	e.Args["question"] = job.Question
	e.Text += " waits for an answer: " + job.Question
	return e
}

func ended(title string, job *store.Job, step string) store.Event {
	switch job.State {
	case store.Succeeded:
		e := event(title, job, EventSucceeded, store.SeverityInfo)
		e.Text += fmt.Sprintf(" succeeded after %s", job.Ended.Sub(job.Created).Round(time.Second))
		return e
	case store.Canceled:
		e := event(title, job, EventCanceled, store.SeverityWarning)
		e.Text += " was canceled"
		return e
	}
	e := event(title, job, EventFailed, store.SeverityCritical)
	e.Args["step"] = step
	explain(&e, job)
	e.Text += fmt.Sprintf(" failed at “%s”: %s", step, job.Error.Cause)
	return e
}

// event begins an event and its text: "web01: Test failover".
func event(title string, job *store.Job, code, severity string) store.Event {
	e := store.Event{Severity: severity, Code: code, Machine: job.Machine, Name: job.Name, Job: job.ID, Text: title,
		Args: map[string]string{"kind": job.Kind, "title": title}}
	if name := cmp.Or(job.Name, job.Machine); name != "" {
		e.Text = name + ": " + title
	}
	return e
}

func explain(e *store.Event, job *store.Job) {
	e.Args["cause"], e.Args["effect"] = job.Error.Cause, job.Error.Effect
	e.Action = job.Error.Action
}

// finding is an error as a job keeps it.
func finding(err error) *store.Finding {
	p := replication.AsProblem(err)
	level := store.SeverityCritical
	if p.Remedy == replication.Retry {
		level = store.SeverityWarning
	}
	return &store.Finding{Code: p.Code, Level: level, Cause: clip(p.Cause), Effect: clip(p.Effect), Action: clip(p.Action), Since: time.Now().UTC()}
}
