package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"riparo/replication"
)

// disk is one disk of a machine: a sparse file, its change tracking and, when it
// was made on a recovery point, the overlay's map. It does no locking; its machine
// orders reads and writes.
type disk struct {
	key     string
	size    int64
	file    *os.File
	changes *tracking
	overlay *overlay // nil for a disk that is all in its file
}

func diskFile(dir, key string) string    { return filepath.Join(dir, key+".raw") }
func changesFile(dir, key string) string { return filepath.Join(dir, key+".changes") }
func overlayFile(dir, key string) string { return filepath.Join(dir, key+".overlay") }

// createDisk makes an empty disk, in place of what an interrupted creation left.
func createDisk(dir, key string, size int64) (*disk, error) {
	for _, path := range []string{diskFile(dir, key), changesFile(dir, key), overlayFile(dir, key)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("create disk %s: %w", key, err)
		}
	}
	file, err := os.OpenFile(diskFile(dir, key), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create disk %s: %w", key, err)
	}
	d := &disk{key: key, size: size, file: file}
	if err := makeSparse(file); err != nil {
		return nil, errors.Join(fmt.Errorf("create disk %s: %w", key, err), d.close())
	}
	if err := file.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("create disk %s: %w", key, err), d.close())
	}
	if d.changes, err = createTracking(changesFile(dir, key), size); err != nil {
		return nil, errors.Join(fmt.Errorf("disk %s: %w", key, err), d.close())
	}
	return d, nil
}

// openDisk opens a disk as its machine's definition describes it.
func openDisk(dir string, def diskDefinition) (*disk, error) {
	file, err := os.OpenFile(diskFile(dir, def.Key), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open disk %s: %w", def.Key, err)
	}
	d := &disk{key: def.Key, size: def.Size, file: file}
	if d.changes, err = openTracking(changesFile(dir, def.Key), def.Size); err != nil {
		return nil, errors.Join(fmt.Errorf("disk %s: %w", def.Key, err), d.close())
	}
	if def.Backing != "" {
		if d.overlay, err = openOverlay(overlayFile(dir, def.Key), def.Size, def.Backing); err != nil {
			return nil, errors.Join(fmt.Errorf("disk %s: %w", def.Key, err), d.close())
		}
	}
	return d, nil
}

// fill writes the initial content of a new disk, whose first block is super.
func (d *disk) fill(id identity, number uint8, super superblock) error {
	buffer := make([]byte, 0, clusterSize)
	start := uint32(0)
	flush := func() error {
		if len(buffer) == 0 {
			return nil
		}
		e := replication.Extent{Offset: int64(start) * BlockSize, Length: int64(len(buffer))}
		if err := d.changes.written(e, firstGeneration); err != nil {
			return err
		}
		_, err := d.file.WriteAt(buffer, e.Offset)
		buffer = buffer[:0]
		return err
	}
	for number32 := range uint32(d.size / BlockSize) {
		zero := id.initialZero(number, number32)
		if zero || len(buffer) == cap(buffer) {
			if err := flush(); err != nil {
				return fmt.Errorf("fill disk %s: %w", d.key, err)
			}
		}
		if zero {
			continue
		}
		if len(buffer) == 0 {
			start = number32
		}
		buffer = buffer[:len(buffer)+BlockSize]
		block := buffer[len(buffer)-BlockSize:]
		if number32 == 0 {
			super.fill(block)
		} else {
			id.initial(block, number, number32)
		}
	}
	if err := flush(); err != nil {
		return fmt.Errorf("fill disk %s: %w", d.key, err)
	}
	return nil
}

// read fills p with the disk's bytes from offset on.
func (d *disk) read(ctx context.Context, p []byte, offset int64) error {
	if d.overlay != nil {
		return d.overlay.read(ctx, d.file, p, offset)
	}
	if _, err := d.file.ReadAt(p, offset); err != nil {
		return fmt.Errorf("read disk %s at %d: %w", d.key, offset, err)
	}
	return nil
}

// write writes p at offset and remembers it under a generation.
func (d *disk) write(ctx context.Context, p []byte, offset int64, generation uint32) error {
	e := replication.Extent{Offset: offset, Length: int64(len(p))}
	if err := d.changes.written(e, generation); err != nil {
		return fmt.Errorf("disk %s: %w", d.key, err)
	}
	if d.overlay != nil {
		return d.overlay.write(ctx, d.file, p, offset)
	}
	if _, err := d.file.WriteAt(p, offset); err != nil {
		return fmt.Errorf("write disk %s at %d: %w", d.key, offset, err)
	}
	return nil
}

// discard makes an extent zero and gives its space back.
func (d *disk) discard(ctx context.Context, e replication.Extent, generation uint32) error {
	// The grains count as written until the zeroes are there: a process that ends
	// in between leaves no claim that is not true.
	if err := d.changes.written(e, generation); err != nil {
		return fmt.Errorf("disk %s: %w", d.key, err)
	}
	if d.overlay != nil {
		if err := d.overlay.zero(ctx, d.file, e); err != nil {
			return fmt.Errorf("discard disk %s %s: %w", d.key, e, err)
		}
	} else if err := punch(d.file, e); err != nil {
		return fmt.Errorf("discard disk %s %s: %w", d.key, e, err)
	}
	if err := d.changes.discarded(e, d.size, generation); err != nil {
		return fmt.Errorf("disk %s: %w", d.key, err)
	}
	return nil
}

// grow makes the disk larger with zeroes.
func (d *disk) grow(size int64) error {
	if err := d.changes.grow(size); err != nil {
		return fmt.Errorf("disk %s: %w", d.key, err)
	}
	if err := d.file.Truncate(size); err != nil {
		return fmt.Errorf("grow disk %s: %w", d.key, err)
	}
	d.size = size
	return nil
}

func (d *disk) close() error {
	errs := []error{d.file.Close()}
	if d.changes != nil {
		errs = append(errs, d.changes.file.Close())
	}
	if d.overlay != nil {
		errs = append(errs, d.overlay.close())
	}
	return errors.Join(errs...)
}
