// Package recovery brings machines up elsewhere and back again: test failover and
// its cleanup, planned and unplanned failover, change of the recovery point,
// commit, reverse replication, failback. Each is a job of named steps
// (appliance/jobs), each step safe to run again.
//
// # What a failover promises
//
//   - A machine starts on an overlay over its recovery point: nothing is copied
//     beforehand, and the point is never written to.
//   - A planned failover loses nothing: the source is seen stopped before the last
//     point is taken.
//   - An unplanned failover does not touch the source unless it is asked to send
//     its latest data first, and goes on when that fails.
//   - Ownership is taken (the epoch raised at the vault) before the replica's first
//     instruction. From then on the old source cannot write to the vault.
//   - A step succeeds on what was observed: the machine runs and its console spoke.
//   - A failover or failback that is canceled is undone: production runs again where
//     it ran before, and the replica of a failover is gone.
//
// # What is undone
//
// An undo goes by what was done, not by what was meant. A job keeps whether the machine
// ran before it shut it down, and whether it saw it down: a guest that was asked to shut
// down ends when it likes, so the undo waits for that before it starts it again, and a
// machine that was off stays off. A replica is removed also when a crash kept its
// reference from being noted, by its owner. A source whose site is lost does not keep the
// undo from its end: the replica goes on as long as there is hope, then the event
// source.down says what a person has to do. Once a step has begun that says in the
// machine's record what was done, the job cannot be canceled any more.
//
// # The way back
//
// Reverse replication is the same walk with the ends exchanged: the vault goes
// back to the point that was failed over to, and the replica's changes since then
// follow as points on top of it. Failback first brings the original disks up to
// date while the replica still works, by comparing them with the vault; then stops
// the replica, takes a last point, applies what it changed, and starts the
// original. A machine that no longer exists at the source is made again.
//
// Between these steps nobody holds the original's disks, and a fence keeps only those
// from starting it who come through Riparo. So what the disks look like is kept whenever
// the failback is done with them. Looking otherwise, they are compared as a whole before
// the last changes count as applied, and after that the next point is.
package recovery
