package providertest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"riparo/hypervisor"
	"riparo/replication"
)

// copies are plain files to which captures are applied, as a vault would.
type copies struct {
	dir   string
	files map[string]*os.File
	held  map[string]replication.PointID // what each file shows
}

func newCopies(t *testing.T) *copies {
	c := &copies{dir: t.TempDir(), files: map[string]*os.File{}, held: map[string]replication.PointID{}}
	t.Cleanup(func() {
		for _, f := range c.files {
			f.Close()
		}
	})
	return c
}

// since is what the copies hold, for a request.
func (c *copies) since() map[string]replication.PointID {
	out := map[string]replication.PointID{}
	for key, point := range c.held {
		out[key] = point
	}
	return out
}

// apply brings the copies to the instant of a capture and returns how many bytes
// were read for it. What is not a delta replaces the file.
func (c *copies) apply(t *testing.T, capture hypervisor.Capture) (read int64) {
	t.Helper()
	for _, d := range capture.Disks() {
		n, err := c.applyDisk(t.Context(), d)
		if err != nil {
			t.Fatalf("apply disk %s: %v", d.Key(), err)
		}
		read += n
	}
	return read
}

func (c *copies) applyDisk(ctx context.Context, d hypervisor.CapturedDisk) (read int64, err error) {
	f := c.files[d.Key()]
	if f == nil {
		if f, err = os.Create(filepath.Join(c.dir, fmt.Sprintf("disk%d", len(c.files)))); err != nil {
			return 0, err
		}
		c.files[d.Key()] = f
	}
	if d.Mode() != hypervisor.Delta {
		if err := f.Truncate(0); err != nil {
			return 0, err
		}
	}
	// A grown disk is grown with zeroes, as a sink does it.
	if err := f.Truncate(d.Size()); err != nil {
		return 0, err
	}
	buffer := make([]byte, mib)
	for region, err := range d.Regions(ctx) {
		if err != nil {
			return read, err
		}
		for at := region.Offset; at < region.End(); {
			p := buffer[:min(int64(len(buffer)), region.End()-at)]
			if region.Zero {
				clear(p)
			} else {
				if _, err := d.ReadAt(p, at); err != nil && err != io.EOF {
					return read, err
				}
				read += int64(len(p))
			}
			if _, err := f.WriteAt(p, at); err != nil {
				return read, err
			}
			at += int64(len(p))
		}
	}
	return read, nil
}

// sources are the copies as disks.
func (c *copies) sources() map[string]replication.Source {
	out := map[string]replication.Source{}
	for key, f := range c.files {
		out[key] = file{f}
	}
	return out
}

// file is a plain file as a disk, all of it data.
type file struct{ *os.File }

func (f file) Size() int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

func (f file) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		if size := f.Size(); size > 0 {
			yield(replication.Region{Extent: replication.Extent{Length: size}}, nil)
		}
	}
}

// checkRegions holds regions to their promises: ascending, inside of the disk, zero
// where they say so, and without gaps if they speak of the whole disk.
func checkRegions(t *testing.T, d replication.Source, whole bool) {
	t.Helper()
	at := int64(0)
	buffer := make([]byte, mib)
	for region, err := range d.Regions(t.Context()) {
		if err != nil {
			t.Fatalf("regions: %v", err)
		}
		if region.Offset < at || region.Within(d.Size()) != nil {
			t.Fatalf("region %s of a disk of %d bytes follows one that ends at %d", region.Extent, d.Size(), at)
		}
		if whole && region.Offset != at {
			t.Fatalf("the regions leave out the bytes from %d to %d", at, region.Offset)
		}
		for from := region.Offset; region.Zero && from < region.End(); from += int64(len(buffer)) {
			p := buffer[:min(int64(len(buffer)), region.End()-from)]
			if _, err := d.ReadAt(p, from); err != nil && err != io.EOF {
				t.Fatalf("read at %d: %v", from, err)
			}
			for i, b := range p {
				if b != 0 {
					t.Fatalf("region %s is said to be zero, and byte %d is %#x", region.Extent, from+int64(i), b)
				}
			}
		}
		at = region.End()
	}
	if whole && at != d.Size() {
		t.Fatalf("the regions end at %d: the disk has %d bytes", at, d.Size())
	}
}
