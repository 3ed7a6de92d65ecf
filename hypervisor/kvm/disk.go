package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/nbd"
)

// disks reports the disks of a machine and what keeps it from being protected. Sizes
// come from the images, also while QEMU has them open: a resize writes them there at
// once, and QEMU 7.2 can crash when block nodes are listed at the very moment at
// which a stream job (Flatten) takes its filter away.
func (s *Site) disks(d *Definition) (disks []hypervisor.Disk, obstacles []string) {
	for i, disk := range d.Disks {
		path := s.diskPath(disk)
		size, err := imageSize(path, disk.Format)
		if err != nil {
			obstacles = append(obstacles, fmt.Sprintf("disk %s cannot be read (%v): put its image in place, or correct the definition", disk.Key, err))
		}
		disks = append(disks, hypervisor.Disk{Key: disk.Key, Size: size, Format: disk.Format, Path: path, Boot: disk.Boot || i == 0 && !d.bootNamed()})
	}
	return disks, obstacles
}

func (d *Definition) bootNamed() bool {
	for _, disk := range d.Disks {
		if disk.Boot {
			return true
		}
	}
	return false
}

// OpenDisk opens a disk of a stopped machine, by way of a QEMU without a machine: it
// understands every format, keeps bitmaps right while the disk is written to, and
// locks the image.
func (s *Site) OpenDisk(ctx context.Context, ref hypervisor.Ref, key string, mode hypervisor.OpenMode) (hypervisor.OpenedDisk, error) {
	d, err := s.load(ref)
	if err != nil {
		return nil, err
	}
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	switch s.observe(ctx, d.Name) {
	case guestDown:
		if err := s.settle(ctx, d, p); err != nil {
			return nil, err
		}
	case ended:
	default:
		return nil, &replication.Problem{
			Code: "kvm.runs", Cause: fmt.Sprintf("machine %s runs", d.Name), Effect: "its disks cannot be opened beside it",
			Action: "stop the machine first", Remedy: replication.Retry,
		}
	}
	found := false
	for _, disk := range d.Disks {
		found = found || disk.Key == key
	}
	if !found {
		return nil, fmt.Errorf("machine %s has no disk %s", d.Name, key)
	}
	st, err := s.openStorage(ctx, d)
	if err != nil {
		return nil, err
	}
	client, err := st.export(ctx, key, mode)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open disk %s of %s: %w", key, d.Name, err), st.release())
	}
	return &openedDisk{Client: client, storage: st, key: key}, nil
}

// Stamp tells what the images of a stopped machine look like: where each lies, and when it
// was written last.
func (s *Site) Stamp(ctx context.Context, ref hypervisor.Ref) (string, error) {
	d, err := s.load(ref)
	if err != nil {
		return "", err
	}
	if state := s.observe(ctx, d.Name); state != ended {
		return "", nil // whoever settles it writes to the images
	}
	var stamp strings.Builder
	for _, disk := range d.Disks {
		path := s.diskPath(disk)
		one, err := stampOf(path)
		if err != nil {
			return "", fmt.Errorf("look at disk %s of %s: %w", disk.Key, d.Name, err)
		}
		if one == "" {
			return "", nil
		}
		fmt.Fprintf(&stamp, "%s %q %s\n", disk.Key, path, one)
	}
	return stamp.String(), nil
}

// openedDisk is a disk of a stopped machine.
type openedDisk struct {
	*nbd.Client
	storage *storage
	key     string
}

// Close flushes and closes the disk.
func (o *openedDisk) Close() error {
	if o.storage == nil {
		return nil
	}
	var err error
	if !o.ReadOnly() {
		err = o.Sync()
	}
	st := o.storage
	o.storage = nil
	return errors.Join(err, o.Client.Close(), st.unexport(o.key), st.release())
}

// export serves one disk to this process.
func (st *storage) export(ctx context.Context, key string, mode hypervisor.OpenMode) (*nbd.Client, error) {
	socket := st.site.socket(st.definition.Name, "disk.sock")
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.exports == 0 {
		os.Remove(socket)
		// QEMU has one NBD server: while a capture of the stopped machine is open,
		// it is the capture's.
		if err := st.conn.Execute(ctx, "nbd-server-start", fields{"addr": fields{"type": "unix", "data": fields{"path": socket}}}, nil); err != nil {
			return nil, err
		}
	}
	st.exports++
	export := fields{"type": "nbd", "id": "open-" + key, "name": "open-" + key, "node-name": diskNode(key), "writable": mode == hypervisor.ReadWrite}
	if err := st.conn.Execute(ctx, "block-export-add", export, nil); err != nil {
		return nil, errors.Join(err, st.lessExports(ctx))
	}
	client, err := nbd.DialAddress(ctx, nbd.Address{Network: "unix", Address: socket, Export: "open-" + key},
		nbd.Options{Contexts: []string{nbd.AllocationContext}, Connections: 4})
	if err != nil {
		return nil, errors.Join(err, st.removeExport(ctx, key))
	}
	return client, nil
}

func (st *storage) unexport(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), quitLimit)
	defer cancel()
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return nil
	}
	return st.removeExport(ctx, key)
}

// removeExport waits until the export is gone, so that the disk can be opened again
// at once.
func (st *storage) removeExport(ctx context.Context, key string) error {
	if err := st.conn.Execute(ctx, "block-export-del", fields{"id": "open-" + key, "mode": "hard"}, nil); err != nil {
		return err
	}
	err := look(ctx, func() (bool, error) {
		var exports []struct {
			ID string `json:"id"`
		}
		err := st.conn.Execute(ctx, "query-block-exports", nil, &exports)
		for _, e := range exports {
			if e.ID == "open-"+key {
				return false, err
			}
		}
		return true, err
	})
	return errors.Join(err, st.lessExports(ctx))
}

// lessExports stops the NBD server after the last export.
func (st *storage) lessExports(ctx context.Context) error {
	if st.exports--; st.exports > 0 {
		return nil
	}
	return st.conn.Execute(ctx, "nbd-server-stop", nil, nil)
}
