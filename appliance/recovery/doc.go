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
//   - A failover or failback that fails is undone: production runs again where it
//     ran before, and the replica is gone.
//
// # The way back
//
// Reverse replication is the same walk with the ends exchanged: the vault goes
// back to the point that was failed over to, and the replica's changes since then
// follow as points on top of it. Failback first brings the original disks up to
// date while the replica still works, by comparing them with the vault; then stops
// the replica, takes a last point, applies what it changed, and starts the
// original. A machine that no longer exists at the source is made again.
package recovery
