// Package jobs runs long work as durable jobs of named steps.
//
// A [Definition] says which steps a kind of job has. The [Engine] saves each step
// before it begins and after it ended; what the step handed on, its evidence and
// changes of other records ([Work.OnDone]) become durable in the same transaction
// as its end. A step that a crash interrupted is run again, so every step is safe
// to run again: it looks at what is there and goes on.
//
// # The way of a job
//
//	not started ─▶ in progress ─▶ succeeded
//	                │  ▲  └─────▶ failed ──Restart──▶ in progress, at the failed step
//	                ▼  │            └─────Cancel────▶ taken back, canceled
//	     waiting to retry, waiting for input
//
// An error of a step carries its remedy ([replication.RemedyFor]), and the engine
// obeys: Retry waits 1, 2, 4, 8, 10, then every 30 minutes; Stop fails the job
// until a person restarts or cancels it; Resync goes to the definition's OnResync.
// A step that waits for something that is no failure, as the end of a pause, returns
// [Waiting]: nothing is counted, and nobody is warned.
//
// Cancel ends the context of the running step, with [ErrCanceled] as its cause,
// and then takes back the steps in reverse order by their Undo. That is durable
// too: it goes on after a crash.
//
// # Promises
//
//   - One machine has at most one job that has not ended.
//   - What Start acknowledged is run to an end, however often the process dies.
//   - When Run returns, none of the engine's goroutines is left and no job was
//     failed by the shutdown.
package jobs
