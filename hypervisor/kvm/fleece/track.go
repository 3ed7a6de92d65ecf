package fleece

import (
	"context"
	"fmt"

	"riparo/replication"
)

// Track makes every disk of a machine remember its changes from now on, under the
// name of a point. The guest must not have run yet since the disks held the content
// of the point. A disk that has the bitmap already keeps it.
func Track(ctx context.Context, m Machine, point replication.PointID) error {
	monitor, release, err := m.Connect(ctx)
	if err != nil {
		return err
	}
	defer release()
	g, err := readGraph(ctx, monitor)
	if err != nil {
		return err
	}
	disks, err := g.resolve(m.Name, m.Disks)
	if err != nil {
		return err
	}
	var actions []args
	for _, d := range disks {
		n := g.nodes[d.Node]
		if found, ok := n.bitmap(Bitmap(point, d.Key)); ok && !found.Inconsistent {
			continue
		} else if ok {
			actions = append(actions, action("block-dirty-bitmap-remove", args{"node": d.Node, "name": found.Name}))
		}
		actions = append(actions, addBitmap(d.Node, Bitmap(point, d.Key), n.persistent()))
	}
	if err := transaction(ctx, monitor, actions); err != nil {
		return fmt.Errorf("track the changes of %s since %s: %w", m.Name, point, err)
	}
	return nil
}

func (n node) bitmap(name string) (bitmap, bool) {
	for _, b := range n.Bitmaps {
		if b.Name == name {
			return b, true
		}
	}
	return bitmap{}, false
}

// Forget removes everything that captures left in a machine: open views and all
// bitmaps of ours.
func Forget(ctx context.Context, m Machine) error {
	monitor, release, err := m.Connect(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := removeViews(ctx, monitor, &m, true); err != nil {
		return err
	}
	g, err := readGraph(ctx, monitor)
	if err != nil {
		return err
	}
	for _, n := range g.nodes {
		for _, b := range n.Bitmaps {
			if !isOurs(b.Name) {
				continue
			}
			if err := monitor.Execute(ctx, "block-dirty-bitmap-remove", args{"node": n.Name, "name": b.Name}, nil); err != nil {
				return fmt.Errorf("remove the bitmap %s of %s: %w", b.Name, m.Name, err)
			}
		}
	}
	return nil
}

// Clear removes the open views of captures from a machine that is about to end. Bitmaps
// stay, and a guest that stands still goes on doing so.
func Clear(ctx context.Context, m Machine) error {
	monitor, release, err := m.Connect(ctx)
	if err != nil {
		return err
	}
	defer release()
	return removeViews(ctx, monitor, &m, false)
}
