package replication

import "fmt"

// Change is new content of one extent. Data has the extent's length, or is nil:
// then the extent is all zero.
type Change struct {
	Extent
	Data []byte
}

// Zero reports whether the change makes its extent all zero.
func (c Change) Zero() bool { return c.Data == nil }

// Limits of one batch. They bound what a Sink must hold in memory for a sender.
const (
	// MaxChangeBytes is the most data that one change may carry: 1 MiB keeps a
	// record readable in one small I/O. A zero change has no such limit.
	MaxChangeBytes = 1 << 20
	// MaxBatchBytes is the most data that one batch may carry. 4 MiB appends are
	// where disks reach their full rate.
	MaxBatchBytes = 4 << 20
	// MaxBatchChanges bounds a batch of many small changes.
	MaxBatchChanges = 4096
)

// Batch is a run of changes to one disk, durable as a whole or not at all.
// Changes of a batch do not overlap.
type Batch struct {
	Disk     DiskID
	Epoch    Epoch
	Sequence Sequence
	Changes  []Change
	// Taken, if set, is called by a sink that has no more need of the data while Write
	// still waits for its turn or for the disk. A sink need not call it.
	Taken func()
}

// Check reports what makes b unacceptable for a disk of size bytes, or nil.
func (b *Batch) Check(size int64) error {
	if len(b.Changes) == 0 || len(b.Changes) > MaxBatchChanges {
		return fmt.Errorf("batch %d of disk %s has %d changes: want 1 to %d", b.Sequence, b.Disk, len(b.Changes), MaxBatchChanges)
	}
	total := 0
	for _, c := range b.Changes {
		if err := c.Within(size); err != nil {
			return fmt.Errorf("batch %d of disk %s: %w", b.Sequence, b.Disk, err)
		}
		if !c.Zero() && (int64(len(c.Data)) != c.Length || len(c.Data) > MaxChangeBytes) {
			return fmt.Errorf("batch %d of disk %s: %d bytes of data for extent %s (limit %d)", b.Sequence, b.Disk, len(c.Data), c.Extent, MaxChangeBytes)
		}
		total += len(c.Data)
	}
	if total > MaxBatchBytes {
		return fmt.Errorf("batch %d of disk %s carries %d bytes: limit %d", b.Sequence, b.Disk, total, MaxBatchBytes)
	}
	return nil
}
