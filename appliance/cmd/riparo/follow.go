package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

const (
	// firstLook and lastLook: a job of a moment is not waited for longer than it
	// takes, and one of hours is looked at without being a load.
	firstLook = 50 * time.Millisecond
	lastLook  = 500 * time.Millisecond
	// lostLimit is how long an appliance may be away while its job is followed: a
	// daemon that is started again goes on with the job.
	lostLimit = 2 * time.Minute
)

// follow waits for the end of a job and tells meanwhile what its steps do. The
// error is the problem of a job that did not succeed.
func (t *terminal) follow(ctx context.Context, client *api.Client, id string) (store.Job, error) {
	told := &narration{terminal: t, steps: map[string]time.Time{}}
	defer told.clear()
	var lost time.Time // since when the appliance is away
	for look := firstLook; ; look = min(2*look, lastLook) {
		job, err := client.Job(ctx, id)
		switch {
		case ctx.Err() != nil:
			return job, stoppedWaiting(id)
		case err != nil && replication.AsProblem(err).Code == "client.unreachable" && (lost.IsZero() || time.Since(lost) < lostLimit):
			if lost.IsZero() {
				lost = time.Now()
				told.line("%s; trying again", replication.AsProblem(err).Cause)
			}
		case err != nil:
			return job, err
		default:
			lost = time.Time{}
			told.tell(job)
			if job.State.Ended() {
				return job, endingOf(job)
			}
		}
		select {
		case <-ctx.Done():
			return job, stoppedWaiting(id)
		case <-time.After(look):
		}
	}
}

// stoppedWaiting is what Ctrl-C means here: the job does not hear of it.
func stoppedWaiting(id string) error {
	return &replication.Problem{Code: "interrupted", Cause: "the wait for job " + id + " was interrupted", Effect: "the job goes on in the appliance",
		Action: fmt.Sprintf("see it with `riparo jobs show %s --follow`, or end it with `riparo jobs cancel %s`", id, id), Remedy: replication.Stop}
}

// endingOf is the problem of a job that ended, or nil when it succeeded.
func endingOf(job store.Job) error {
	about := fmt.Sprintf("job %s (%s)", job.ID, titleOf(job))
	switch job.State {
	case store.Succeeded, store.Skipped:
		return nil
	case store.Canceled:
		effect := "what it had done was taken back"
		if job.Kind == string(lifecycle.ChangePoint) {
			effect = "a replica that it had removed does not come back: choose a recovery point again"
		}
		return &replication.Problem{Code: "job.canceled", Cause: about + " was canceled", Effect: effect,
			Action: "start it again when it is wanted", Remedy: replication.Stop}
	}
	p := &replication.Problem{Code: "job.failed", Cause: about + " failed", Remedy: replication.Stop}
	if job.Error != nil {
		p.Code, p.Effect, p.Action = job.Error.Code, job.Error.Effect, job.Error.Action
		p.Cause = about + " failed: " + job.Error.Cause
	}
	p.Effect = cmp.Or(p.Effect, "the job has stopped at this step")
	restart := fmt.Sprintf("`riparo jobs restart %s` goes on at the step that failed", job.ID)
	p.Action = cmp.Or(p.Action, "remove the cause") + "; " + restart
	return p
}

// titleOf names a job for people: "test failover of WEB01".
func titleOf(job store.Job) string {
	title := lifecycle.Spoken(lifecycle.Verb(job.Kind))
	if who := cmp.Or(job.Name, job.Machine); who != "" {
		title += " of " + who
	}
	return title
}

// narration tells a job as it goes: a line for each step that ended, and what is
// under way below them, drawn over on a terminal and now and then elsewhere.
type narration struct {
	*terminal
	steps map[string]time.Time // steps that were told, by when they ended
	pause string               // why the job stands still, as last told
	begun string               // the step under way, as last told
	last  time.Time            // when it was
	drawn bool
}

func (n *narration) tell(job store.Job) {
	for _, s := range job.Steps {
		if s.State.Ended() && (n.steps[s.Name].IsZero() || !n.steps[s.Name].Equal(s.Ended)) {
			n.steps[s.Name] = s.Ended
			n.line("  %s: %s", s.Name, endOf(s))
		}
	}
	for i, s := range job.Steps {
		if s.State == store.InProgress && job.State == store.InProgress {
			n.underWay(fmt.Sprintf("%d/%d %s", i+1, len(job.Steps), s.Name), s)
		}
	}
	n.standstill(job)
}

func endOf(s store.Step) string {
	switch s.State {
	case store.Succeeded:
		return fmt.Sprintf("done in %.1f s", seconds(s.Ended.Sub(s.Started)))
	case store.Skipped:
		return "not needed"
	case store.Canceled:
		return "taken back"
	}
	return string(s.State)
}

// underWay shows the step that the job is at.
func (n *narration) underWay(title string, s store.Step) {
	if !n.interactive {
		if n.begun != s.Name {
			n.begun, n.last = s.Name, time.Now()
		} else if time.Since(n.last) >= lineEvery {
			n.last = time.Now()
			n.line("  %s: %s", s.Name, howFar(s))
		}
		return
	}
	bar := ""
	if s.Total > 0 {
		full := min(int(float64(s.Done)/float64(s.Total)*barWidth), barWidth)
		bar = strings.Repeat("█", full) + strings.Repeat("░", barWidth-full) + " "
	}
	fmt.Fprintf(n.err, "\r\x1b[K  %s %s%s", title, bar, howFar(s))
	n.drawn = true
}

func howFar(s store.Step) string {
	if s.Total <= 0 {
		return ageOf(time.Since(s.Started))
	}
	return fmt.Sprintf("%.0f %%, %s of %s", float64(s.Done)/float64(s.Total)*100, sizeOf(s.Done), sizeOf(s.Total))
}

// standstill tells once why a job does not move.
func (n *narration) standstill(job store.Job) {
	why := ""
	switch job.State {
	case store.WaitingForInput:
		why = fmt.Sprintf("  the job asks: %s\n  answer with `riparo jobs answer %s TEXT`", job.Question, job.ID)
	case store.WaitingToRetry:
		cause := ""
		if job.Error != nil {
			cause = ": " + job.Error.Cause
		}
		why = fmt.Sprintf("  attempt %d did not succeed; the next one is at %s%s", job.Attempt, job.NextTry.Local().Format(time.TimeOnly), cause)
		if job.Attempt == 0 { // no failure: it waits for something
			why = "  the job waits" + cause
			if job.Error != nil && job.Error.Action != "" {
				why += "; " + job.Error.Action
			}
		}
	}
	if why != "" && why != n.pause {
		n.line("%s", why)
	}
	n.pause = why
}

func (n *narration) line(format string, args ...any) {
	n.clear()
	n.remark(format, args...)
}

// clear removes what is drawn over, so that what follows stands on a clean line.
func (n *narration) clear() {
	if n.drawn {
		fmt.Fprint(n.err, "\r\x1b[K")
		n.drawn = false
	}
}
