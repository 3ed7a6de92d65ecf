package sim

import "bytes"

// link carries frames both ways, badly.
type link struct {
	partitioned bool
	busiest     [2]int64 // when the last frame of each direction arrives
}

// Chances of the link in 1000 frames.
const (
	loses      = 25
	duplicates = 20
	corrupts   = 10
	delays     = 15
)

// send lets a frame arrive at the far end some time, or not, or twice. way is 0
// towards the target.
func (w *world) send(way int, frame []byte, arrive func([]byte)) {
	if w.link.partitioned {
		w.fired["partitioned frame"]++
		return
	}
	copies := 1
	if w.chance(loses) {
		w.fault("lost frame")
		copies = 0
	}
	if w.chance(duplicates) {
		w.fault("duplicated frame")
		copies++
	}
	for range copies {
		p := frame
		if w.chance(corrupts) {
			w.fault("corrupted frame")
			p = bytes.Clone(frame)
			p[w.random.IntN(len(p))] ^= 1 << w.random.IntN(8)
		}
		when := w.now + w.between(1, 6)
		if w.chance(delays) {
			w.fault("delayed frame")
			when += w.between(20, 1500)
		}
		if when < w.link.busiest[way] {
			w.fired["reordered frame"]++
		}
		w.link.busiest[way] = max(w.link.busiest[way], when)
		w.at(when, "a frame arrives", func() { arrive(p) })
	}
}
