package store

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"
)

// idClock keeps IDs in the order in which they were made.
var idClock struct {
	mu    sync.Mutex // guards the rest
	milli int64
	count int
}

const (
	// maxPerMilli is how many IDs fit into one millisecond; more borrow from the
	// next one.
	maxPerMilli = 0x1000
	// maxBorrowed is how far IDs may run ahead of the clock, in milliseconds, also
	// when it is set back a little. Set back further, order follows the clock.
	maxBorrowed = 1000
)

// idTime is the time in an ID.
const idTime = "20060102T150405.000Z"

// NewIDAfter makes an ID that sorts after another one, which may be of a time when the clock
// went ahead. Without another, it is that of now.
func NewIDAfter(now time.Time, last string) string {
	id := NewID(now)
	if id > last {
		return id
	}
	text, _, _ := strings.Cut(last, "-")
	at, err := time.Parse(idTime, text)
	if err != nil { // not one of ours
		return id
	}
	return format(at.Add(time.Millisecond).UnixMilli(), 0)
}

// NewID makes an ID that sorts by time as text, and among those of one instant by
// the order in which they were made. Example: "20261123T094501.250Z-0003f9a".
func NewID(now time.Time) string {
	idClock.mu.Lock()
	milli := now.UnixMilli()
	if ahead := idClock.milli - milli; ahead >= 0 && ahead <= maxBorrowed {
		milli = idClock.milli
		idClock.count++
	} else {
		idClock.count = 0
	}
	if idClock.count == maxPerMilli {
		milli, idClock.count = milli+1, 0
	}
	idClock.milli = milli
	count := idClock.count
	idClock.mu.Unlock()

	return format(milli, count)
}

// format writes an ID. Chance keeps IDs apart when the clock is set back, or after a
// restart.
func format(milli int64, count int) string {
	var chance [2]byte
	rand.Read(chance[:])
	return fmt.Sprintf("%s-%03x%04x", time.UnixMilli(milli).UTC().Format(idTime), count, binary.BigEndian.Uint16(chance[:]))
}
