package noise

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// content is what a block of the modeled disk holds.
type content uint8

const (
	zero content = iota
	text         // compresses
	film         // does not
)

const (
	blockSize = 64 << 10
	perMinute = mib / blockSize * 60 // blocks in a minute at 1 MiB/s
)

// model is a disk of 32 GiB, block by block: a third documents, a sixth database, a
// tenth films, of the rest half was never used and half was deleted without a trim.
type model struct {
	*rand.Rand
	blocks  []content
	written map[int]content // what stood there before this minute
	log     int             // where the log goes on
	free    [2]int          // where the next file goes: deleted, empty
}

const (
	documents = iota
	database
	films
	deleted
	empty
)

// regions are the parts of the disk, in blocks.
var regions = [...][2]int{documents: {0, 160_000}, database: {160_000, 240_000}, films: {240_000, 290_000}, deleted: {290_000, 405_000}, empty: {405_000, 32 * gib / blockSize}}

func newModel(seed uint64) *model {
	m := &model{Rand: rand.New(rand.NewPCG(seed, 21)), blocks: make([]content, 32*gib/blockSize)}
	fill := func(region int, c content) {
		for i := regions[region][0]; i < regions[region][1]; i++ {
			m.blocks[i] = c
		}
	}
	fill(documents, text)
	fill(database, text)
	fill(films, film)
	fill(deleted, text)
	m.log = regions[empty][0]
	return m
}

func (m *model) in(region int) int {
	return regions[region][0] + m.IntN(regions[region][1]-regions[region][0])
}

// alloc is where the file system puts a new block: never used space, or of ten blocks
// so many that held text which was deleted.
func (m *model) alloc(reused int) int {
	i := 1
	if m.IntN(10) < reused {
		i = 0
	}
	first, end := regions[deleted+i][0], regions[deleted+i][1]
	at := first + m.free[i]
	m.free[i] = (m.free[i] + 1) % (end - first)
	return at
}

func (m *model) write(at int, c content) {
	if _, known := m.written[at]; !known {
		m.written[at] = m.blocks[at]
	}
	m.blocks[at] = c
}

// minute lets activities work for a minute and gives the sample of its point.
func (m *model) minute(at time.Time, activities ...func(*model)) Sample {
	m.written = map[int]content{}
	for _, a := range activities {
		a(m)
	}
	s := Sample{Time: at, Size: 32 * gib}
	for i, was := range m.written {
		s.Changed += blockSize
		now := m.blocks[i]
		switch {
		case now == film && was == text:
			s.Turned += blockSize
		case now == film && was == zero:
			s.Fresh += blockSize
		case now == zero && was == text:
			s.Vanished += blockSize
		}
		if now == film {
			s.Noise += blockSize
		}
	}
	return s
}

// The activities. Each works for a minute.

func databaseChurn(m *model) {
	for range 200 + m.IntN(2000) {
		c := text
		if m.IntN(1000) == 0 { // a column of pictures grows
			c = film
		}
		m.write(m.in(database), c)
	}
}

func logAppends(m *model) {
	for range 1 + m.IntN(30) {
		m.write(m.log, text)
		m.log = regions[empty][0] + (m.log+1-regions[empty][0])%20_000 // rotated
	}
}

// update downloads packages, unpacks them and deletes them, for a quarter of an hour
// every night. A file system that does not trim reuses some of what was deleted.
func update(m *model) {
	for range perMinute / 4 {
		m.write(m.alloc(3), film)
		m.write(m.alloc(3), text)
		m.write(m.alloc(3), text)
	}
}

// copyFilms copies films at 40 MiB/s; reused is how many of ten blocks held text that
// was deleted.
func copyFilms(reused int) func(*model) {
	return func(m *model) {
		for range 40 * perMinute {
			m.write(m.alloc(reused), film)
		}
	}
}

// encryption goes through a share of the documents in place, at a rate.
type encryption struct {
	every   int // one of so many files of 4 MiB
	rate    float64
	at      int
	newFile bool // into new files; the old ones are trimmed
}

func (e *encryption) work(m *model) {
	const file = 64 // blocks
	for n := int(e.rate * perMinute); n > 0 && e.at < regions[documents][1]; e.at++ {
		if e.at/file%e.every != 0 {
			continue
		}
		n--
		if e.newFile {
			m.write(m.alloc(0), film)
			m.write(e.at, zero)
		} else {
			m.write(e.at, film)
		}
	}
}

func between(from, to int, a func(*model)) func(int) func(*model) {
	return func(minute int) func(*model) {
		if of := minute % (24 * 60); of >= from && of < to {
			return a
		}
		return func(*model) {}
	}
}

// TestWhatIsNoAttackRaisesNoAlarm runs days of ordinary work. The last case is the
// false alarm that the package admits.
func TestWhatIsNoAttackRaisesNoAlarm(t *testing.T) {
	const days, seeds = 2, 3
	for _, c := range []struct {
		name  string
		work  func(int) func(*model)
		false bool // an alarm is expected
	}{
		{"database churn", between(0, 24*60, databaseChurn), false},
		{"log appends", between(0, 24*60, logAppends), false},
		{"software update with packages, nightly", between(120, 135, update), false},
		{"copy of 36 GiB of films into empty space, daily", between(600, 615, copyFilms(0)), false},
		{"copy of films, 3 of 10 blocks over deleted documents", between(600, 615, copyFilms(3)), false},
		{"copy of films, all over deleted documents that were not trimmed", between(600, 603, copyFilms(10)), true},
	} {
		alarms, highest := 0, 0.0
		for seed := range uint64(seeds) {
			m := newModel(seed)
			var s State
			var v Verdict
			for minute := range days * 24 * 60 {
				churn := func(*model) {}
				if minute%10 == 0 {
					churn = databaseChurn
				}
				s, v = Watch(s, m.minute(start.Add(time.Duration(minute)*time.Minute), c.work(minute), churn))
				highest = max(highest, float64(v.Sum)/float64(v.Limit))
				if v.Alarm {
					alarms++
					s = Dismiss(s, 32*gib)
				}
			}
		}
		t.Logf("%-64s %d false alarms in %d days, highest sum %.0f %% of the threshold", c.name, alarms, days*seeds, 100*highest)
		if c.false != (alarms > 0) {
			t.Errorf("%s: %d alarms", c.name, alarms)
		}
	}
}

// TestAnEncryptionIsSeen measures how long it takes and what is lost by then, beside a
// database that is at work.
func TestAnEncryptionIsSeen(t *testing.T) {
	for _, c := range []struct {
		share   int // percent of the files
		rate    float64
		newFile bool
		within  time.Duration
	}{
		{100, 50, false, time.Minute}, {50, 50, false, time.Minute}, {5, 50, false, time.Minute},
		{100, 0.5, false, 5 * time.Minute}, {50, 0.5, false, 5 * time.Minute}, {5, 0.5, false, 5 * time.Minute},
		{100, 0.02, false, time.Hour},
		{100, 50, true, time.Minute}, {100, 0.5, true, 5 * time.Minute},
	} {
		for seed := range uint64(3) {
			m := newModel(seed)
			var s State
			var v Verdict
			at := start
			step := func(a ...func(*model)) {
				at = at.Add(time.Minute)
				s, v = Watch(s, m.minute(at, a...))
			}
			for range 6 * 60 {
				step(databaseChurn, logAppends)
			}
			if v.Alarm {
				t.Fatalf("seed %d: an alarm before the attack", seed)
			}
			onset := at
			e := &encryption{every: 100 / c.share, rate: c.rate, newFile: c.newFile}
			for !v.Alarm && at.Sub(onset) < 24*time.Hour {
				step(databaseChurn, logAppends, e.work)
			}
			how := "in place"
			if c.newFile {
				how = "into new files"
			}
			name := fmt.Sprintf("%d %% of the files at %g MiB/s %s", c.share, c.rate, how)
			if !v.Alarm || at.Sub(onset) > c.within {
				t.Errorf("seed %d: %s: seen after %s (alarm %v), want within %s", seed, name, at.Sub(onset), v.Alarm, c.within)
			}
			// A point that is called clean must be: before the attack, and not long before.
			if v.Clean.After(onset) || onset.Sub(v.Clean) > 10*time.Minute {
				t.Errorf("seed %d: %s: the last clean point is of %s, the attack began at %s", seed, name, v.Clean, onset)
			}
			if seed == 0 {
				t.Logf("%-46s seen after %s, %d MiB lost; last clean point %s before the attack", name, at.Sub(onset), v.Sum/mib, onset.Sub(v.Clean))
			}
		}
	}
}
