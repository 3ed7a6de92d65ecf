package protection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/replication/image"
	"riparo/replication/processserver"
	"riparo/replication/resync"
	"riparo/store"
)

// A disk may be seeded: a person brings an image of it, on a medium that is faster than
// the link, and the vault is filled from that. The image is older than the disk, or wrong
// altogether; the first replication compares all of the disk with what the vault then
// holds, by checksum, and sends what differs. No point shows the image.

// SeedsName is the folder, beside the vault, where images are put. No other place can be
// named: who may protect a machine need not be one who may read the appliance's files.
const SeedsName = "seeds"

// maxSeeds bounds what is listed of the folder.
const maxSeeds = 1000

// Seeds lists the folder: what lies there ready to fill a disk, by name. It has no more
// than maxSeeds files to tell of.
func (p *Protector) Seeds() (folder string, sizes map[string]int64, err error) {
	folder, sizes = p.seeds, map[string]int64{}
	d, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return folder, sizes, nil
	}
	if err != nil {
		return folder, nil, fmt.Errorf("list the images in %s: %w", folder, err)
	}
	defer d.Close()
	entries, err := d.ReadDir(maxSeeds)
	if err != nil && !errors.Is(err, io.EOF) {
		return folder, nil, fmt.Errorf("list the images in %s: %w", folder, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone meanwhile, or no image
		}
		sizes[e.Name()] = info.Size()
	}
	return folder, sizes, nil
}

// CheckSeed reports why an image cannot fill a disk of some size.
func (p *Protector) CheckSeed(name string, size int64) error {
	f, err := p.openSeed(name, size)
	if err != nil {
		return err
	}
	return f.Close()
}

func (p *Protector) openSeed(name string, size int64) (*image.File, error) {
	if !filepath.IsLocal(name) || filepath.Base(name) != name || name == "." {
		return nil, replication.Stopf("seed.name", "put the image into the folder "+p.seeds+" and name it without a folder", "the image %q is not named as a file of that folder", name)
	}
	f, err := image.OpenFile(filepath.Join(p.seeds, name))
	if err != nil {
		return nil, fmt.Errorf("open the image %s in %s: %w", name, p.seeds, err)
	}
	if f.Size() != size {
		problem := replication.Stopf("seed.size", "bring a raw image of this disk; one in another format is converted with qemu-img convert -O raw",
			"the image %s has %d bytes, and the disk %d", name, f.Size(), size)
		return nil, errors.Join(problem, f.Close())
	}
	return f, nil
}

// fillFromSeeds fills the disks that have an image. What an earlier try brought is
// compared and not written again.
func (p *Protector) fillFromSeeds(ctx context.Context, w *jobs.Work) error {
	id := machineOf(w)
	m, _, err := p.machine(id)
	if err != nil {
		return err
	}
	for _, d := range m.Disks {
		if d.Seed == "" || d.Excluded {
			continue
		}
		sent, err := p.fillFromSeed(ctx, w, m, d)
		if err != nil {
			return fmt.Errorf("fill disk %s from the image %s: %w", d.Key, d.Seed, err)
		}
		w.Evidence("seed of "+d.Key, fmt.Sprintf("%s, %d bytes, %d of data written", d.Seed, d.Size, sent))
		if _, err := p.Change(id, func(m *store.Machine) error {
			if i := slices.IndexFunc(m.Disks, func(o store.Disk) bool { return o.Key == d.Key }); i >= 0 {
				m.Disks[i].Seed = "" // it may be taken away now
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (p *Protector) fillFromSeed(ctx context.Context, w *jobs.Work, m store.Machine, d store.Disk) (sent int64, err error) {
	f, err := p.openSeed(d.Seed, d.Size)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	state, err := p.sink.Prepare(ctx, replication.Disk{ID: d.ID, Machine: m.ID, Size: d.Size}, m.Epoch)
	if err != nil {
		return 0, err
	}
	var source replication.Source = f
	if state.Sequence > 0 {
		source = resync.Differences(f, p.sink, d.ID, nil)
	}
	result, err := processserver.Carry(ctx, p.sink, state, source, processserver.Options{
		Epoch:    m.Epoch,
		Progress: func(at processserver.Progress) { w.Progress(at.Offset, d.Size) },
	})
	if err == nil {
		err = f.Check() // nobody wrote to it meanwhile
	}
	return result.Sent, err
}
