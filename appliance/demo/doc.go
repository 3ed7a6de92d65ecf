// Package demo tells the whole story of disaster recovery on the embedded lab:
// machines with real bytes and a running workload are protected, replicated, tested,
// failed over, moved to another recovery point, committed, reversed and failed back.
//
// Nothing is taken on trust. After each act the disks in question are judged
// against the workload's own record, which the engine never sees: which instant do
// they show, and is every byte of that instant there? The result says verified
// only when every judgment agreed, every job succeeded, and the vault, read again
// from end to end, is whole.
package demo
