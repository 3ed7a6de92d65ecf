// Package processserver is the stage of the walk that carries a frozen disk to a
// sink: it reads the regions that matter ahead and in order, finds what is zero,
// builds batches, keeps several of them under way and obeys a limit of bytes per
// second.
//
//	regions ─▶ loads of 512 KiB ─▶ reads, 6 at once ─▶ batches ─▶ writes, 16 at once ─▶ sink
//	 plan       one buffer each      find zeroes         in order     in order of sequence
//
// [Carry] is the whole interface. It keeps nothing between two calls: what is
// durable is told by the sink, what changed by the source. Interrupted anywhere it
// leaves no goroutine behind and nothing at the sink but acknowledged batches
// without a mark; the caller prepares again and compares.
//
// It promises a bound on memory: no more than [MaxMemory] bytes of data are held,
// whatever the size of the disk and however slow the sink. A sink that says when it needs
// the data of a batch no more ([replication.Batch.Taken]) lets its buffer be read into again
// while the batch waits for the disk.
package processserver
