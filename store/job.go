package store

import (
	"cmp"
	"slices"
	"time"
)

// JobState is where a job stands.
type JobState string

const (
	NotStarted      JobState = "not started"
	InProgress      JobState = "in progress"
	WaitingForInput JobState = "waiting for input"
	WaitingToRetry  JobState = "waiting to retry"
	Succeeded       JobState = "succeeded"
	Failed          JobState = "failed"
	Canceled        JobState = "canceled"
	Skipped         JobState = "skipped" // of a step that was not needed
)

// Ended reports whether a job in this state will not move by itself any more.
func (s JobState) Ended() bool { return s == Succeeded || s == Failed || s == Canceled || s == Skipped }

// Job is one long operation of named steps. Key: its ID, which sorts by age.
type Job struct {
	ID        string            `json:"id"`
	Kind      string            `json:"kind"`              // "enable-protection", "test-failover", …
	Machine   string            `json:"machine,omitempty"` // MachineID
	Name      string            `json:"name,omitempty"`    // of the machine, for people
	Actor     string            `json:"actor,omitempty"`   // who asked for it
	Params    map[string]string `json:"params,omitempty"`
	Data      map[string]string `json:"data,omitempty"` // what steps hand to later steps
	State     JobState          `json:"state"`
	Steps     []Step            `json:"steps"`
	Attempt   int               `json:"attempt,omitempty"`
	NextTry   time.Time         `json:"next_try,omitzero"`
	Error     *Finding          `json:"error,omitempty"`
	Question  string            `json:"question,omitempty"` // while waiting for input
	CancelAsk bool              `json:"cancel_ask,omitempty"`
	Created   time.Time         `json:"created"`
	Ended     time.Time         `json:"ended,omitzero"`
}

// Step is one named part of a job. It is safe to run again.
type Step struct {
	Name     string    `json:"name"`
	State    JobState  `json:"state"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	Done     int64     `json:"done,omitempty"` // progress, bytes unless Unit says otherwise
	Total    int64     `json:"total,omitempty"`
	Evidence []Fact    `json:"evidence,omitempty"`
}

// AllUnfinishedJobs are the jobs that have not ended, oldest first. They are few:
// one per machine and those that concern none.
func (tx *Tx) AllUnfinishedJobs() ([]Job, error) {
	var jobs []Job
	for _, state := range []JobState{NotStarted, InProgress, WaitingForInput, WaitingToRetry} {
		for j, err := range tx.JobsIn(state).All() {
			if err != nil {
				return nil, err
			}
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(jobs, func(a, b Job) int { return cmp.Compare(a.ID, b.ID) })
	return jobs, nil
}
