package replication

import (
	"context"
	"errors"
)

// Sink is where the walk of a block ends: a vault, a master target in front of
// one, or the writer of a cloud disk. Every Sink passes the suite in sinktest.
//
// For one disk there is one sender at a time. It calls Prepare, then numbers its
// batches and marks onward from the sequence it was told. It may have several
// calls under way at once: the Sink puts them in the order of their sequences and
// a call waits, bounded by its ctx, for the ones before it. That is how one
// fsync serves many batches.
type Sink interface {
	// Prepare makes sure that the Sink holds the disk with this size and is owned
	// by this epoch, and tells what is durable. A new disk is created; a larger
	// size grows the disk with zeroes, a smaller one cuts it. A higher epoch takes
	// ownership; a lower one is refused with ErrStaleEpoch. Preparing twice is
	// harmless and discards nothing that was acknowledged.
	Prepare(ctx context.Context, disk Disk, epoch Epoch) (DiskState, error)

	// Write takes b. When it returns nil, b survives a crash of whatever lies
	// behind the Sink. A batch whose sequence is already durable is acknowledged
	// again and otherwise ignored. The Sink does not keep b.Changes.
	Write(ctx context.Context, b Batch) error

	// Mark closes a recovery point. When it returns nil, the mark and everything
	// before it are durable. Repeating a mark is harmless.
	Mark(ctx context.Context, m Mark) error
}

// DiskState is what a Sink has made durable of a disk.
type DiskState struct {
	Disk     Disk
	Epoch    Epoch
	Sequence Sequence // the last durable one; the sender goes on with Sequence+1
	Point    PointID  // of the last durable mark; empty if there is none yet
	// PointSize is how large the disk was then, in bytes. What lies beyond its end is
	// zero at the sink, and anything at the source.
	PointSize int64
	// Unmarked is true when data arrived after that mark, the rest of a transfer that was
	// cut off, or the disk was cut. It is part of the disk's head, and of no point.
	Unmarked bool
}

// Errors that a Sink returns, wrapped with the disk they concern.
var (
	// ErrStaleEpoch: somebody else owns the disk now. Final for this sender.
	ErrStaleEpoch = errors.New("the disk has a newer owner")
	// ErrUnknownDisk: Prepare was not called, or the disk was erased.
	ErrUnknownDisk = errors.New("unknown disk")
	// ErrSequence: a gap, or a number that was used for something else. The
	// sender prepares again and goes on from there.
	ErrSequence = errors.New("sequence out of order")
	// ErrUnknownPoint: the disk has no such recovery point.
	ErrUnknownPoint = errors.New("unknown recovery point")
)
