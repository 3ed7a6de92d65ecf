package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"riparo/replication"
)

// tracking remembers for every grain of a disk in which generation it was written
// last. A new generation begins with every capture, so what changed since an
// instant is what has a higher generation than the instant. The file is written
// before the data, and a killed process forgets nothing.
//
// It knows no more than the writes that reach the disk: it is not made from the
// record, and the record judges it.
type tracking struct {
	file   *os.File
	grains []uint32
}

const (
	// never: the grain was not written since the disk was made, and is zero unless
	// the disk has a backing.
	never = 0
	// firstGeneration is that of the content a disk is made with.
	firstGeneration = 1
	// zeroGrain marks a grain that was discarded as a whole and not written since.
	zeroGrain = 1 << 31
)

// generation of a grain's last write.
func generation(grain uint32) uint32 { return grain &^ zeroGrain }

func grainsOf(size int64) int64 { return (size + grainSize - 1) / grainSize }

// createTracking makes the memory of a disk of which nothing was written yet.
func createTracking(path string, size int64) (*tracking, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create change tracking: %w", err)
	}
	t := &tracking{file: file}
	if err := t.grow(size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return t, nil
}

func openTracking(path string, size int64) (*tracking, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open change tracking: %w", err)
	}
	content := make([]byte, 4*grainsOf(size))
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, int64(len(content))), content); err != nil {
		return nil, errors.Join(fmt.Errorf("read change tracking %s: %w", path, err), file.Close())
	}
	t := &tracking{file: file, grains: make([]uint32, grainsOf(size))}
	for i := range t.grains {
		t.grains[i] = binary.LittleEndian.Uint32(content[4*i:])
	}
	return t, nil
}

// grow adds grains that were never written.
func (t *tracking) grow(size int64) error {
	n := grainsOf(size)
	if err := t.file.Truncate(4 * n); err != nil {
		return fmt.Errorf("grow change tracking: %w", err)
	}
	t.grains = append(t.grains, make([]uint32, n-int64(len(t.grains)))...)
	return nil
}

// written notes that an extent is about to be written in a generation.
func (t *tracking) written(e replication.Extent, generation uint32) error {
	return t.set(e.Offset/grainSize, (e.End()-1)/grainSize+1, func(uint32) uint32 { return generation })
}

// discarded notes that an extent, of a disk of size bytes, is zero now.
func (t *tracking) discarded(e replication.Extent, size int64, generation uint32) error {
	from, to := (e.Offset+grainSize-1)/grainSize, e.End()/grainSize
	if e.End() == size {
		to = grainsOf(size)
	}
	return t.set(from, to, func(uint32) uint32 { return generation | zeroGrain })
}

// copied notes that grains got what their backing showed already: that is no
// change, but they are not empty any more.
func (t *tracking) copied(e replication.Extent) error {
	return t.set(e.Offset/grainSize, (e.End()-1)/grainSize+1, func(old uint32) uint32 {
		if old == never {
			return firstGeneration
		}
		return old
	})
}

// set changes grains from to before to, and writes out those that changed.
func (t *tracking) set(from, to int64, value func(old uint32) uint32) error {
	first, last := int64(-1), int64(-1)
	for g := from; g < to; g++ {
		if next := value(t.grains[g]); next != t.grains[g] {
			t.grains[g] = next
			if first < 0 {
				first = g
			}
			last = g
		}
	}
	if first < 0 {
		return nil
	}
	encoded := make([]byte, 4*(last-first+1))
	for g := first; g <= last; g++ {
		binary.LittleEndian.PutUint32(encoded[4*(g-first):], t.grains[g])
	}
	if _, err := t.file.WriteAt(encoded, 4*first); err != nil {
		return fmt.Errorf("write change tracking: %w", err)
	}
	return nil
}
