package logs

import (
	"bytes"
	"hash/fnv"
	"log/slog"
	"strings"
	"time"
)

const (
	// chunkSize is what one entry of the index stands for: small enough that reading
	// one for a single line is a matter of 100 µs, large enough that the index of a
	// gigabyte is a megabyte and a half.
	chunkSize = 256 << 10
	// maxLine is the longest line. What is longer is cut into several, which are
	// damaged ones.
	maxLine = 1 << 20
	// bloomWords make a filter of 4,096 bits: with the 500 names and jobs that 256 KiB
	// may speak of, one look in forty is in vain.
	bloomWords = 64
	bloomBits  = bloomWords * 64
	bloomLooks = 3
)

// chunk is a part of a file that ends with a line.
type chunk struct {
	from, to    int64 // in the file, uncompressed
	first, last time.Time
	levels      Levels
	damaged     bool // holds damaged lines
	bloom       [bloomWords]uint64
}

func (c *chunk) add(h uint64) {
	for i := range uint64(bloomLooks) {
		bit := (h + i*(h>>32|1)) % bloomBits
		c.bloom[bit/64] |= 1 << (bit % 64)
	}
}

func (c *chunk) holds(h uint64) bool {
	for i := range uint64(bloomLooks) {
		bit := (h + i*(h>>32|1)) % bloomBits
		if c.bloom[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

// sum is the hash of an attribute, whatever its case.
func sum(key, value string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write([]byte(strings.ToLower(value)))
	// Spread what differs over all bits: names differ in their last letter.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// maxComponents bounds the names of components that are remembered to be offered.
const maxComponents = 64

// describe makes the entry of a block that begins at from. before is the time of
// the line before it.
func (f *file) describe(data []byte, from int64, before time.Time) chunk {
	c := chunk{from: from, to: from + int64(len(data)), last: before}
	eachLine(data, func(start, end int) {
		var at time.Time
		seen := 0
		var sums [5]uint64
		n := 0
		good := fields(data[start:end], func(key, value []byte, quoted bool) bool {
			switch string(key) {
			case slog.TimeKey:
				if t, err := time.Parse(time.RFC3339Nano, string(value)); err == nil {
					at, seen = t, seen|1
				}
			case slog.LevelKey:
				var l slog.Level
				if l.UnmarshalText(value) == nil {
					c.levels |= levelSet(l)
					seen |= 2
				}
			case KeyComponent:
				if len(f.components) < maxComponents && len(value) < 64 {
					f.components[string(value)] = true
				}
				fallthrough
			case KeyMachine, KeyName, KeyJob, KeyDisk:
				if n < len(sums) {
					sums[n] = sum(string(key), plain(value, quoted))
					n++
				}
			}
			return true
		})
		if !good || seen != 3 {
			c.damaged = true
			return
		}
		for _, h := range sums[:n] {
			c.add(h)
		}
		if c.first.IsZero() || at.Before(c.first) {
			c.first = at
		}
		if at.After(c.last) {
			c.last = at
		}
	})
	if c.first.IsZero() {
		c.first = before
	}
	return c
}

// eachLine calls visit with where each line begins and ends, its newline left out.
func eachLine(data []byte, visit func(start, end int)) {
	for start := 0; start < len(data); {
		end := bytes.IndexByte(data[start:], '\n')
		if end < 0 {
			visit(start, len(data))
			return
		}
		visit(start, start+end)
		start += end + 1
	}
}
