package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"riparo/replication"
)

// model is what a vault must hold: the plainest thing that can be.
type model struct {
	disks map[replication.DiskID]*modelDisk
}

type modelDisk struct {
	state  replication.DiskState
	head   []byte // never changed in place: points and copies share it
	points []modelPoint
}

type modelPoint struct {
	id      replication.PointID
	content []byte
	members []replication.DiskID
	locked  bool
	pinned  bool
}

func newModel() *model { return &model{disks: map[replication.DiskID]*modelDisk{}} }

// clone is a copy that shares only what never changes.
func (m *model) clone() *model {
	c := newModel()
	for id, d := range m.disks {
		e := *d
		e.points = slices.Clone(d.points)
		c.disks[id] = &e
	}
	return c
}

func (m *model) prepare(disk replication.Disk, epoch replication.Epoch) {
	d := m.disks[disk.ID]
	if d == nil {
		d = &modelDisk{}
		m.disks[disk.ID] = d
	}
	d.state.Disk, d.state.Epoch = disk, epoch
	d.state.Unmarked = d.state.Unmarked || disk.Size < int64(len(d.head))
	d.resize(disk.Size)
}

func (d *modelDisk) resize(size int64) {
	head := make([]byte, size)
	copy(head, d.head)
	d.head = head
}

func (m *model) write(b replication.Batch) {
	d := m.disks[b.Disk]
	d.head = bytes.Clone(d.head)
	for _, c := range b.Changes {
		if c.Zero() {
			clear(d.head[c.Offset:c.End()])
		} else {
			copy(d.head[c.Offset:], c.Data)
		}
	}
	d.state.Sequence, d.state.Unmarked = b.Sequence, true
}

func (m *model) mark(k replication.Mark) {
	d := m.disks[k.Disk]
	d.points = append(d.points, modelPoint{id: k.Point, content: d.head, members: k.Members})
	d.state.Sequence, d.state.Unmarked = k.Sequence, false
	d.state.Point, d.state.PointSize = k.Point, int64(len(d.head))
}

func (m *model) rewind(id replication.DiskID, to replication.PointID, epoch replication.Epoch) {
	d := m.disks[id]
	i := d.index(to)
	d.points = slices.Clone(d.points[:i+1])
	d.head = d.points[i].content
	d.state.Disk.Size = int64(len(d.head))
	d.state.Point, d.state.PointSize, d.state.Unmarked, d.state.Epoch = to, d.state.Disk.Size, false, epoch
}

// drop removes points, and the marks that will never be complete.
func (m *model) drop(id replication.DiskID, points []replication.PointID) {
	d := m.disks[id]
	newer := false
	for i, p := range slices.Backward(d.points) {
		complete := m.complete(p)
		if slices.Contains(points, p.id) || !complete && newer && !p.held() {
			d.points = slices.Delete(slices.Clone(d.points), i, i+1)
		}
		newer = newer || complete
	}
}

func (m *model) complete(p modelPoint) bool {
	for _, id := range p.members {
		if d := m.disks[id]; d == nil || d.index(p.id) < 0 {
			return false
		}
	}
	return true
}

func (d *modelDisk) index(id replication.PointID) int {
	return slices.IndexFunc(d.points, func(p modelPoint) bool { return p.id == id })
}

// held tells a point that may not be let go.
func (p *modelPoint) held() bool { return p.locked || p.pinned }

// keep locks, pins or unpins points.
func (m *model) keep(id replication.DiskID, points []replication.PointID, change func(*modelPoint)) {
	d := m.disks[id]
	d.points = slices.Clone(d.points)
	for _, p := range points {
		change(&d.points[d.index(p)])
	}
}

// droppable are the points that may be dropped.
func (m *model) droppable(id replication.DiskID) []replication.PointID {
	var list []replication.PointID
	for _, p := range m.older(id) {
		if !p.held() {
			list = append(list, p.id)
		}
	}
	return list
}

// older are the points but the newest one and the newest complete one, the newest
// first.
func (m *model) older(id replication.DiskID) []modelPoint {
	var list []modelPoint
	d := m.disks[id]
	newest := true
	for i, p := range slices.Backward(d.points) {
		complete := m.complete(p)
		if i < len(d.points)-1 && !(complete && newest) {
			list = append(list, p)
		}
		if complete {
			newest = false
		}
	}
	return list
}

// release makes points of other disks complete without a disk.
func (m *model) release(id replication.DiskID) {
	for other, d := range m.disks {
		if other == id {
			continue
		}
		for i, p := range d.points {
			if m.complete(p) && slices.Contains(p.members, id) {
				d.points[i].members = slices.DeleteFunc(slices.Clone(p.members), func(x replication.DiskID) bool { return x == id })
			}
		}
	}
}

// matches compares a vault with the model: every state, every point, every byte.
func (m *model) matches(ctx context.Context, v *Vault) error {
	var ids []replication.DiskID
	sizes, points := int64(0), 0
	for _, info := range v.Disks() {
		ids = append(ids, info.Disk.ID)
		sizes, points = sizes+info.Disk.Size, points+info.Points
	}
	if size, count := v.Totals(); size != sizes || count != points {
		return fmt.Errorf("totals of %d bytes and %d points, and the disks tell of %d and %d", size, count, sizes, points)
	}
	if v.Empty() != (len(ids) == 0) {
		return fmt.Errorf("empty is %v with %d disks", v.Empty(), len(ids))
	}
	if want := slices.Sorted(maps.Keys(m.disks)); !slices.Equal(ids, want) {
		return fmt.Errorf("disks %v, want %v", ids, want)
	}
	for id, d := range m.disks {
		got, err := v.State(id)
		if err != nil {
			return err
		}
		if got != d.state {
			return fmt.Errorf("disk %s: state %+v, want %+v", id, got, d.state)
		}
		points, err := v.Points(id)
		if err != nil {
			return err
		}
		var complete []replication.PointID
		for _, p := range d.points {
			if m.complete(p) {
				complete = append(complete, p.id)
			}
		}
		var have []replication.PointID
		for _, p := range points {
			have = append(have, p.ID)
			if i := d.index(p.ID); i >= 0 && !slices.Equal(p.Disks, d.points[i].members) {
				return fmt.Errorf("disk %s: point %s has the members %v, want %v", id, p.ID, p.Disks, d.points[i].members)
			} else if i >= 0 && (p.Locked != d.points[i].locked || p.Pinned != d.points[i].pinned) {
				return fmt.Errorf("disk %s: point %s: locked %v, pinned %v; want %v, %v", id, p.ID, p.Locked, p.Pinned, d.points[i].locked, d.points[i].pinned)
			}
		}
		if !slices.Equal(have, complete) {
			return fmt.Errorf("disk %s: points %v, want %v", id, have, complete)
		}
		for i, p := range d.points {
			if err := sameContent(ctx, v, id, p.id, p.content, its(i, len(d.points), v)); err != nil {
				return err
			}
		}
		if err := sameContent(ctx, v, id, "", d.head, true); err != nil {
			return err
		}
		if err := sameChanges(ctx, v, id, d); err != nil {
			return err
		}
	}
	return nil
}

// its turn has come for one in four points, other ones at each opening, and for the
// newest ones always: the bytes of every point are compared every time, what a vault
// tells about them only then.
func its(i, n int, v *Vault) bool { return i >= n-2 || (uint64(i)+v.session)%4 == 0 }

// sameContent compares a point, or the head, with what it must be; in full, also what
// its regions say.
func sameContent(ctx context.Context, v *Vault, id replication.DiskID, point replication.PointID, want []byte, full bool) error {
	w, err := v.View(ctx, id, point)
	if err != nil {
		return fmt.Errorf("disk %s, point %q: %w", id, point, err)
	}
	err = showsBytes(w, want)
	if err == nil && full {
		err = showsRegions(w, want)
	}
	if err != nil {
		return fmt.Errorf("disk %s, point %q: %w", id, point, closing(err, w))
	}
	return w.Close()
}

// viewShows compares the bytes of a view, and what its regions say.
func viewShows(w *View, want []byte) error {
	if err := showsBytes(w, want); err != nil {
		return err
	}
	return showsRegions(w, want)
}

// rooms are buffers for whole disks: making them anew was a third of the time.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

func buffer(size int) (p []byte, done func()) {
	r := rooms.Get().(*[]byte)
	*r = slices.Grow((*r)[:0], size)[:size]
	return *r, func() { rooms.Put(r) }
}

func showsBytes(w *View, want []byte) error {
	if w.Size() != int64(len(want)) {
		return fmt.Errorf("size %d, want %d", w.Size(), len(want))
	}
	got, done := buffer(len(want) + 1)
	defer done()
	n, err := w.ReadAt(got, 0)
	if err != io.EOF {
		return fmt.Errorf("read to the end: %d bytes, %w", n, err)
	}
	if n != len(want) || !bytes.Equal(got[:n], want) {
		at := 0
		for at < n && got[at] == want[at] {
			at++
		}
		return fmt.Errorf("MIXTURE: %d bytes, the first that differs is %d", n, at)
	}
	return nil
}

func showsRegions(w *View, want []byte) error {
	at := int64(0)
	for r, err := range w.Regions(context.Background()) {
		if err != nil {
			return err
		}
		if r.Offset != at || r.Length <= 0 {
			return fmt.Errorf("region %s follows %d", r.Extent, at)
		}
		if at = r.End(); at > int64(len(want)) {
			return fmt.Errorf("region %s lies outside", r.Extent)
		}
		if r.Zero && !replication.IsZero(want[r.Offset:at]) {
			return fmt.Errorf("region %s is not zero", r.Extent)
		}
	}
	if at != int64(len(want)) {
		return fmt.Errorf("regions end at %d of %d", at, len(want))
	}
	return nil
}

// sameChanges checks that outside of what Changed gives, two neighboring points are
// equal.
func sameChanges(ctx context.Context, v *Vault, id replication.DiskID, d *modelDisk) error {
	type moment struct {
		id      replication.PointID
		content []byte
	}
	moments := []moment{{"", nil}}
	for _, p := range d.points {
		moments = append(moments, moment{p.id, p.content})
	}
	moments = append(moments, moment{"", d.head})
	for i := 1; i < len(moments); i++ {
		if !its(i, len(moments), v) {
			continue
		}
		a, b := moments[i-1], moments[i]
		regions, err := v.Changed(ctx, id, a.id, b.id)
		if err != nil {
			return err
		}
		rest, done := buffer(len(b.content))
		clear(rest[copy(rest, a.content):])
		for _, r := range regions {
			if r.Within(int64(len(b.content))) != nil {
				return fmt.Errorf("disk %s: changed extent %s lies outside of point %q", id, r.Extent, b.id)
			}
			if r.Zero {
				clear(rest[r.Offset:r.End()])
			} else {
				copy(rest[r.Offset:r.End()], b.content[r.Offset:])
			}
		}
		equal := bytes.Equal(rest, b.content)
		done()
		if !equal {
			return fmt.Errorf("disk %s: the changes from %q to %q are not all there", id, a.id, b.id)
		}
	}
	return nil
}

var errViolation = errors.New("violation")

func hasCode(err error, code string) bool {
	p, ok := errors.AsType[*replication.Problem](err)
	return ok && p.Code == code
}
