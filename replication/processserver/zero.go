package processserver

import "riparo/replication"

const (
	// zeroBlock is the grain in which zeroes are looked for: the block of most
	// file systems. Blocks lie at its multiples on the disk, not in the buffer.
	zeroBlock = 4 << 10
	// minZeroRun: a shorter run inside data stays data. Cutting a change in three
	// costs more than what compression leaves of such a run.
	minZeroRun = 64 << 10
)

// split appends the changes that write data at offset: zero changes for runs of
// zeroes that are long, or that are all there is, and data for the rest.
func split(changes []replication.Change, offset int64, data []byte) []replication.Change {
	emit := func(from, to int, zero bool) {
		if from == to {
			return
		}
		c := replication.Change{Extent: replication.Extent{Offset: offset + int64(from), Length: int64(to - from)}}
		if !zero {
			c.Data = data[from:to:to]
		}
		changes = append(changes, c)
	}
	start, run := 0, 0 // of the change that is open, of the zeroes at its end
	for at := 0; at < len(data); {
		next := min(at+int(zeroBlock-(offset+int64(at))%zeroBlock), len(data))
		if !replication.IsZero(data[at:next]) {
			if at-run >= minZeroRun {
				emit(start, run, false)
				emit(run, at, true)
				start = at
			}
			run = next
		}
		at = next
	}
	if n := len(data) - run; n >= minZeroRun || run == start {
		emit(start, run, false)
		emit(run, len(data), true)
	} else {
		emit(start, len(data), false)
	}
	return changes
}
