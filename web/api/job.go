package api

import (
	"context"
	"net/http"

	"riparo/replication"
	"riparo/store"
)

// Done is the answer to what was done at once.
type Done struct {
	Done bool `json:"done"`
}

type jobsInput struct {
	State   string `query:"state" enum:"unfinished,not started,in progress,waiting for input,waiting to retry,succeeded,failed,canceled" doc:"Only jobs in this state; \"unfinished\" for all that have not ended."`
	Machine string `query:"machine" doc:"Only jobs of this machine."`
	Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	Before  string `query:"before" doc:"Only jobs older than the one of this ID."`
}

type answerInput struct {
	ID   string `path:"id"`
	Body struct {
		Answer string `json:"answer" minLength:"1" maxLength:"1000"`
	}
}

func (a *API) jobs() {
	add(a, operation{id: "list-jobs", method: "GET", path: "/api/v1/jobs", tag: "Jobs", summary: "Jobs, newest first"}, a.listJobs)
	add(a, operation{id: "get-job", method: "GET", path: "/api/v1/jobs/{id}", tag: "Jobs", summary: "One job with its steps and their evidence"}, a.getJob)
	act := func(id, summary string, do func(ctx context.Context, actor, job string) error) {
		add(a, operation{id: id + "-job", method: "POST", path: "/api/v1/jobs/{id}/" + id, tag: "Jobs", summary: summary, status: http.StatusAccepted},
			func(ctx context.Context, in *idInput) (*body[Done], error) {
				return answer(Done{true}, do(ctx, callerOf(ctx).Name, in.ID))
			})
	}
	act("cancel", "Cancel a job; what it did is taken back", a.Appliance.CancelJob)
	act("restart", "Go on with a failed job at the step that failed", a.Appliance.RestartJob)
	add(a, operation{id: "answer-job", method: "POST", path: "/api/v1/jobs/{id}/answer", tag: "Jobs", summary: "Answer what a job asks", status: http.StatusAccepted},
		func(ctx context.Context, in *answerInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.AnswerJob(ctx, callerOf(ctx).Name, in.ID, in.Body.Answer))
		})
}

func (a *API) listJobs(ctx context.Context, in *jobsInput) (*body[[]store.Job], error) {
	jobs := []store.Job{}
	err := a.Store.View(func(tx *store.Tx) (err error) {
		jobs, err = JobPage(tx, in.State, in.Machine, in.Before, in.Limit)
		return err
	})
	return answer(jobs, err)
}

// JobPage is a page of jobs, newest first: of a state, of a machine, of both, or
// all.
func JobPage(tx *store.Tx, state, machine, before string, limit int) ([]store.Job, error) {
	if state == "unfinished" {
		return unfinishedPage(tx, machine, before, limit)
	}
	all := tx.Jobs().Range
	switch {
	case machine != "":
		all = tx.JobsOf(replication.MachineID(machine))
	case state != "":
		all = tx.JobsIn(store.JobState(state))
	}
	jobs := []store.Job{}
	for {
		page, err := all.Page(before, limit, true)
		if err != nil {
			return nil, err
		}
		for _, j := range page {
			if state == "" || j.State == store.JobState(state) {
				if jobs = append(jobs, j); len(jobs) == limit {
					return jobs, nil
				}
			}
		}
		if len(page) < limit {
			return jobs, nil
		}
		before = page[len(page)-1].ID
	}
}

func unfinishedPage(tx *store.Tx, machine, before string, limit int) ([]store.Job, error) {
	all, err := tx.AllUnfinishedJobs()
	if err != nil {
		return nil, err
	}
	jobs := []store.Job{}
	for i := len(all) - 1; i >= 0 && len(jobs) < limit; i-- {
		if (machine == "" || all[i].Machine == machine) && (before == "" || all[i].ID < before) {
			jobs = append(jobs, all[i])
		}
	}
	return jobs, nil
}

func (a *API) getJob(ctx context.Context, in *idInput) (*body[store.Job], error) {
	var job store.Job
	err := a.Store.View(func(tx *store.Tx) (err error) {
		job, err = tx.Jobs().Get(in.ID)
		return err
	})
	return answer(job, err)
}
