// Package vault keeps protected disks and their recovery points on local storage.
//
// A [Vault] is a folder. Every disk has a log of its own in it: append-only
// segments of records, each with checksums and chained to the one before it. A
// batch of changes is one record, a mark is one record, and nothing is ever written
// over. The log is the database: all else is derived from it.
//
// The vault is a [replication.Sink]; a [View] is a [replication.Source].
package vault
