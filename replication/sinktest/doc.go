// Package sinktest is the contract of [replication.Sink] as tests. Every Sink runs
// them:
//
//	func TestSink(t *testing.T) {
//		sinktest.Run(t, func(t *testing.T) replication.Sink { return newSink(t) })
//	}
//
// What a Sink promises beyond taking data is tested when it can show it: one that
// can be read back is a [Reader], one that can be closed and opened again is a
// [Reopener], one that lists its recovery points is a [Lister]. A Sink without these
// is judged by what Prepare tells of it.
package sinktest
