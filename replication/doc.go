// Package replication holds the words that every room of Riparo speaks: disk,
// extent, change, batch, sequence, epoch, mark, recovery point, policy, source,
// sink, and what to do about a failure. It imports the standard library only.
//
// # The walk of a changed block
//
// A [Source] is one disk frozen at one instant. The process server reads the
// regions that matter and hands them on as a [Batch]; a [Sink] makes each batch
// durable; a [Mark] closes the recovery point. Data goes forward only. What comes
// back is nil, which means "safe at the far end", or an error that carries what
// to do ([Problem]).
//
// # Promises
//
//   - A batch that a Sink acknowledged survives a crash of whatever lies behind it.
//   - A recovery point exists when the marks of all its member disks are durable,
//     and then it is bit for bit what the sources were at one instant.
//   - A batch or mark of an older ownership epoch is refused, so that a source
//     which lost its machine to a failover cannot overwrite it.
//
// Implementations of Sink are held to this by the suite in replication/sinktest.
package replication
