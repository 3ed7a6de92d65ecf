package vault

import "riparo/replication"

// stage is where the next append comes together while the one before it is on its way to
// the disk. Whoever brings a record copies it there, with mu held, so that the leader, whom
// all wait for, need not. What is on the stage waits in the queue as before: if it is
// withdrawn, or the append before it fails, the stage is dropped, and nothing else changes.
type stage struct {
	pooled *[]byte
	buffer []byte // room for the header of a segment, then the records, their headers still to be made
	drafts int
	first  replication.Sequence // of them
	placed bool                 // it has one of the places
}

// stages are the places for stages: each is memory of an append.
var stages = make(chan struct{}, keptAppends)

// smallStage and anything below is copied as quickly by the leader.
const smallStage = 64 << 10

// fillStage brings what comes next in order to the stage, if an append is under way. The
// caller holds mu.
func (d *disk) fillStage() {
	if !d.leading || d.broken != nil {
		return
	}
	next := max(d.sequence, d.reach) + 1
	if s := d.stage; s != nil {
		next = s.first + replication.Sequence(s.drafts)
	}
	for ; ; next++ {
		p := d.queue[next]
		if p == nil || p.taken || p.mark != nil {
			return
		}
		if s := d.stage; s != nil {
			if int64(len(s.buffer))-segmentHeaderSize+p.size() > commitBytes {
				return
			}
		} else if p.size() < smallStage || p.size() > commitBytes || !d.raise(next) {
			return
		}
		d.stage.add(p.draft)
		p.staged = true
	}
}

// raise makes a stage that begins with a sequence, if there is a place for one.
func (d *disk) raise(first replication.Sequence) bool {
	select {
	case stages <- struct{}{}:
	default:
		return false
	}
	d.stage = newStage(appendBytes)
	d.stage.first, d.stage.placed = first, true
	return true
}

// newStage makes an empty stage for size bytes.
func newStage(size int64) *stage {
	s := &stage{pooled: appends.get()}
	s.buffer = room(s.pooled, size)[:segmentHeaderSize]
	return s
}

// add copies a record.
func (s *stage) add(d *draft) {
	s.buffer = append(append(s.buffer, d.meta...), d.payload...)
	s.drafts++
}

// leave gives the memory back.
func (s *stage) leave() {
	appends.put(s.pooled)
	if s.placed {
		<-stages
	}
}

// unstage ends the use of the stage, and gives what it was. The caller holds mu.
func (d *disk) unstage() *stage {
	s := d.stage
	if s == nil {
		return nil
	}
	for i := range s.drafts {
		d.queue[s.first+replication.Sequence(i)].staged = false
	}
	d.stage = nil
	return s
}

// takeStage gives the stage to whoever appends what is on it. There is none if something
// comes before. The caller holds mu.
func (d *disk) takeStage() *stage {
	if d.stage != nil && d.stage.first != d.sequence+1 {
		d.unstage().leave()
	}
	return d.unstage()
}
