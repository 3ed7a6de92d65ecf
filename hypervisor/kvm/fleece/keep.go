package fleece

import (
	"context"
	"fmt"
	"os"
)

// SaveBitmaps copies our bitmaps of a node into a new qcow2 file without data, which
// has a place for them. They are in the file once QEMU has closed it. It returns how
// many there are; with none no file is made. helper names the file's node.
func SaveBitmaps(ctx context.Context, monitor Monitor, name, helper, file string) (int, error) {
	g, err := readGraph(ctx, monitor)
	if err != nil {
		return 0, err
	}
	disk := g.nodes[name]
	var add, merge []args
	for _, b := range disk.Bitmaps {
		if !isOurs(b.Name) || b.Inconsistent {
			continue
		}
		add = append(add, action("block-dirty-bitmap-add", args{"node": helper, "name": b.Name, "granularity": granularity,
			"persistent": true, "disabled": !b.Recording}))
		merge = append(merge, action("block-dirty-bitmap-merge", args{"node": helper, "target": b.Name,
			"bitmaps": []args{{"node": name, "name": b.Name}}}))
	}
	if len(add) == 0 {
		return 0, nil
	}
	if err := os.WriteFile(file, EmptyImage(disk.Image.Size, ""), 0o600); err != nil {
		return 0, err
	}
	if err := monitor.Execute(ctx, "blockdev-add", args{"driver": "qcow2", "node-name": helper, "file": args{"driver": "file", "filename": file}}, nil); err != nil {
		return 0, err
	}
	if err := transaction(ctx, monitor, add); err != nil {
		return 0, err
	}
	return len(add), transaction(ctx, monitor, merge)
}

// LoadBitmaps gives a node the bitmaps that SaveBitmaps put into a file. Nothing may
// have been written to the node since.
func LoadBitmaps(ctx context.Context, monitor Monitor, name, helper, file string) error {
	err := monitor.Execute(ctx, "blockdev-add", args{"driver": "qcow2", "node-name": helper, "read-only": true,
		"file": args{"driver": "file", "filename": file}}, nil)
	if err != nil {
		return err
	}
	defer monitor.Execute(ctx, "blockdev-del", args{"node-name": helper}, nil)
	g, err := readGraph(ctx, monitor)
	if err != nil {
		return err
	}
	var actions []args
	disk, kept := g.nodes[name], g.nodes[helper]
	if kept.Image.Size != disk.Image.Size {
		return fmt.Errorf("the bitmaps in %s are for a disk of %d bytes, not %d", file, kept.Image.Size, disk.Image.Size)
	}
	for _, b := range kept.Bitmaps {
		if _, there := disk.bitmap(b.Name); there || b.Inconsistent {
			continue
		}
		// A bitmap of a file that is open read-only never records: what it did when
		// it was saved is told by the flag that QEMU keeps with it.
		actions = append(actions,
			action("block-dirty-bitmap-add", args{"node": name, "name": b.Name, "granularity": granularity, "disabled": !b.Recording}),
			action("block-dirty-bitmap-merge", args{"node": name, "target": b.Name, "bitmaps": []args{{"node": helper, "name": b.Name}}}))
	}
	return transaction(ctx, monitor, actions)
}
