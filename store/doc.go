// Package store is what the appliance remembers between two starts: one bbolt
// file, one bucket and one key rule per kind of record, JSON values.
//
// A record is plain data. The rules live elsewhere: states in
// replication/lifecycle, steps in appliance/jobs, verbs in appliance/protection
// and appliance/recovery. Secrets are never part of a record in clear.
package store
