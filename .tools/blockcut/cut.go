package blockcut

import "math/rand/v2"

const sector = 512

// How a cut treats what no flush covered.
const (
	nothingStays = iota
	allStays
	anySectorStays
	ways
)

// cutter goes through a trace from its beginning to its end. image has what is durable
// at the place that was reached.
type cutter struct {
	events []event
	image  *picture
	at     int   // of the events, those before it are in image
	notes  []int // all before the newest cut
	seen   int   // of the events, for notes
}

// cut gives the disk as it is found when the power goes before event number end. It must
// not be called with a smaller end than before.
func (c *cutter) cut(end int, r *rand.Rand) (found *picture, way int) {
	last := c.at
	for i := c.at; i < end; i++ {
		if c.events[i].kind == flushed {
			last = i
		}
	}
	for ; c.at < last; c.at++ {
		if e := c.events[c.at]; e.kind == written {
			c.image.write(e.data, e.offset)
		}
	}
	for ; c.seen < end; c.seen++ {
		if e := c.events[c.seen]; e.kind == noted {
			c.notes = append(c.notes, e.note)
		}
	}
	found, way = c.image.clone(), r.IntN(ways)
	for _, e := range c.events[c.at:end] {
		if e.kind != written || way == nothingStays {
			continue
		}
		for at := 0; at < len(e.data); at += sector {
			if way == allStays || r.IntN(2) == 0 {
				found.write(e.data[at:min(at+sector, len(e.data))], e.offset+int64(at))
			}
		}
	}
	return found, way
}
