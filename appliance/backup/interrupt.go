package backup

import (
	"time"

	"riparo/store"
)

// interrupt ends the jobs that were under way when the backup was made, and tells how
// many. On the appliance of then they went on, and what they would go on with may not be
// there any more: whether they do is for a person to say, who restarts or cancels them as
// any job that failed. A backup that was being written is the one that is restored, or
// one before it: nobody needs to hear of that.
func interrupt(tx *store.Tx, now time.Time) (interrupted int, err error) {
	unfinished, err := tx.AllUnfinishedJobs()
	if err != nil {
		return 0, err
	}
	for _, j := range unfinished {
		ends := store.Failed
		if j.Kind == JobKind {
			ends = store.Canceled
		} else {
			interrupted++
		}
		for i := range j.Steps {
			// A job that was being taken back keeps its steps as they are: restarted, it
			// goes on taking back.
			if s := &j.Steps[i]; !s.State.Ended() && s.State != store.NotStarted && !j.CancelAsk {
				s.State, s.Ended = ends, now
			}
		}
		j.State, j.Ended, j.Attempt, j.NextTry, j.Question, j.Error = ends, now, 0, time.Time{}, "", nil
		if ends == store.Failed {
			j.Error = &store.Finding{Code: "job.restored", Level: string(store.Critical), Cause: "the job was interrupted by a restore of the appliance from a backup", Since: now,
				Effect: "it does not go on by itself: it may have ended since, or its machine may be another way now",
				Action: "see how its machine is at both sites, then restart it, or cancel it to take back what it did"}
		}
		if err := tx.Jobs().Put(j); err != nil {
			return 0, err
		}
	}
	return interrupted, nil
}

// goodTokens tells how many API tokens are good. They stay so, as accounts do: programs
// go on when the appliance is needed most. Which were revoked since the backup nobody
// knows here, so a person is told to look.
func goodTokens(tx *store.Tx, now time.Time) (good int, err error) {
	for t, err := range tx.Tokens().All() {
		if err != nil {
			return 0, err
		}
		if t.Expires.IsZero() || t.Expires.After(now) {
			good++
		}
	}
	return good, nil
}
