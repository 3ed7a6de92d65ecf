// Package store is what the appliance remembers between two starts: one bbolt
// file, one bucket and one key rule per kind of record, JSON values.
//
// A record is plain data. The rules live elsewhere: states in
// replication/lifecycle, steps in appliance/jobs, verbs in appliance/protection
// and appliance/recovery. Secrets are never part of a record in clear.
//
// [Store.View] and [Store.Update] run a function in a transaction; its [Tx] has
// one [Table] per kind. [Get], [List], [Put], [Delete] and [Change] are for the
// many places that need just one record. [Store.Subscribe] tells what changed.
//
// # Promises
//
//   - When Update returns nil, all of its changes survive a crash; when it returns
//     an error, none of them happened.
//   - A record is read as it was written or not at all: each value carries a
//     checksum of its key and its text, and Open reads the whole file once.
//   - A write that the disk did not confirm is final: the store refuses further
//     changes until it is opened again ([Problem] store.failed). A full disk is
//     not: the change did not happen, the next one may.
//
// # Caveats
//
//   - One transaction at a time changes; the others wait. A transaction that is
//     open for long keeps space from being reused. Do nothing in a transaction
//     that can wait for anything.
//   - Never open a transaction inside another one of the same goroutine: it can
//     wait for itself.
//   - One process at a time has the file open.
//
// [Problem]: replication.Problem
package store
