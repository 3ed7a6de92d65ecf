package fleece

import (
	"fmt"
	"slices"
	"strings"

	"riparo/hypervisor"
	"riparo/replication"
)

// plan says how to read one disk and what has to happen to its bitmaps before.
type plan struct {
	mode   hypervisor.CaptureMode
	reason string // why mode is Unknown
	base   string // the bitmap to read by, if mode is Delta

	merge   []string // leftovers of captures newer than base: their changes belong into it
	enable  bool     // base was disabled by such a capture
	remove  []string // bitmaps that mean nothing any more, merged ones not included
	persist bool
}

// planFor decides by the bitmaps that are there.
//
//   - No point is known of the disk: whatever is there is dropped; a full read.
//   - The bitmap of the point is missing or inconsistent, or the chain of bitmaps
//     since then has a gap: dropped; an Unknown read with the reason.
//   - Bitmaps newer than the point are what captures left behind that were never
//     committed. The bitmap of the point stopped recording when the first of them
//     began; merged together they hold every change since the point.
//   - Bitmaps older than the point are dropped, and those of another disk, whose image
//     this one was.
func planFor(n node, key string, since replication.PointID) plan {
	p := plan{persist: n.persistent()}
	var ours []bitmap
	for _, b := range n.Bitmaps {
		switch {
		case !isOurs(b.Name):
		case strings.HasSuffix(b.Name, ofDisk(key)):
			ours = append(ours, b)
		default:
			p.remove = append(p.remove, b.Name)
		}
	}
	// PointIDs sort by age as text.
	slices.SortFunc(ours, func(a, b bitmap) int { return strings.Compare(a.Name, b.Name) })
	giveUp := func(mode hypervisor.CaptureMode, reason string) plan {
		p := plan{mode: mode, reason: reason, persist: p.persist, remove: p.remove}
		for _, b := range ours {
			p.remove = append(p.remove, b.Name)
		}
		return p
	}
	if since == "" {
		return giveUp(hypervisor.Full, "")
	}
	at := slices.IndexFunc(ours, func(b bitmap) bool { return b.Name == Bitmap(since, key) })
	if at < 0 {
		return giveUp(hypervisor.Unknown, fmt.Sprintf("no dirty bitmap of point %s: QEMU ended since then, or the disk was replaced", since))
	}
	base, newer := ours[at], ours[at+1:]
	if base.Inconsistent {
		return giveUp(hypervisor.Unknown, fmt.Sprintf("the dirty bitmap of point %s is inconsistent: QEMU crashed or was killed", since))
	}
	recording := base.Recording
	for _, b := range newer {
		if b.Inconsistent {
			return giveUp(hypervisor.Unknown, fmt.Sprintf("the dirty bitmap of an interrupted capture (%s) is inconsistent: QEMU crashed or was killed", b.Name))
		}
		recording = recording || b.Recording
		p.merge = append(p.merge, b.Name)
	}
	if !recording {
		return giveUp(hypervisor.Unknown, fmt.Sprintf("the dirty bitmap of point %s was not recording", since))
	}
	p.mode, p.base, p.enable = hypervisor.Delta, base.Name, !base.Recording
	for _, b := range ours[:at] {
		p.remove = append(p.remove, b.Name)
	}
	return p
}

// restore gives the actions that make the plan's base hold every change since its
// point, and recording. They are exact only within one transaction.
func (p plan) restore(node string) []args {
	var actions []args
	// First it records, then it takes over: a write that ends in between, as one of a disk
	// with a thread of its own may, is in one of them or in both.
	if p.enable {
		actions = append(actions, action("block-dirty-bitmap-enable", args{"node": node, "name": p.base}))
	}
	if len(p.merge) > 0 {
		actions = append(actions, action("block-dirty-bitmap-merge", args{"node": node, "target": p.base, "bitmaps": p.merge}))
	}
	for _, name := range slices.Concat(p.merge, p.remove) {
		actions = append(actions, action("block-dirty-bitmap-remove", args{"node": node, "name": name}))
	}
	return actions
}

// granularity of new bitmaps. 64 KiB is qcow2's cluster: a finer one would not make
// copies smaller, and 1 TiB of disk takes 2 MiB of bitmap.
const granularity = 64 << 10

// begin gives the actions that let the bitmap of a new point record, and end those that
// hand over to it. What the machine's window needs comes in between: a write that was under
// way, as one of a disk with a thread of its own may be, is over then, and is in both.
func (p plan) begin(node, name string) (first, last []args) {
	if p.mode == hypervisor.Delta {
		last = append(last, action("block-dirty-bitmap-disable", args{"node": node, "name": p.base}))
	}
	return []args{addBitmap(node, name, p.persist)}, last
}

func addBitmap(node, name string, persistent bool) args {
	return action("block-dirty-bitmap-add", args{"node": node, "name": name, "granularity": granularity, "persistent": persistent})
}
