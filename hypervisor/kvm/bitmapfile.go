package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"riparo/hypervisor/kvm/fleece"
)

// A raw image has no place for dirty bitmaps: QEMU keeps them in memory and they
// would end with it. When QEMU ends in order, Riparo therefore saves them in a qcow2
// file without data beside the machine's run-time files, and loads them back before
// the disk is written to again. The file is deleted before that first write, so that
// after a crash there is none: a bitmap that missed changes must not be believed.

// savedBitmaps says what a raw disk looked like when its bitmaps were saved. If it
// looks different now, somebody wrote to it, and its bitmaps are worth nothing.
type savedBitmaps struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

func (s *Site) bitmapFile(name, key string) string { return s.runFile(name, key+".bitmaps") }

func bitmapNode(key string) string { return "bitmaps-" + key }

// saveBitmaps copies the bitmaps of raw disks into their files and returns the keys
// of the disks that have one. It must be the last thing before QEMU quits. A disk
// that cannot be saved has no file: the next capture finds that out.
func (s *Site) saveBitmaps(ctx context.Context, d *Definition, r *record, monitor fleece.Monitor) []string {
	var saved []string
	r.Bitmaps = nil
	for _, disk := range d.Disks {
		if disk.Format != "raw" {
			continue
		}
		file := s.bitmapFile(d.Name, disk.Key)
		os.Remove(file)
		n, err := fleece.SaveBitmaps(ctx, monitor, diskNode(disk.Key), bitmapNode(disk.Key), file)
		if err != nil {
			os.Remove(file)
		} else if n > 0 {
			saved = append(saved, disk.Key)
		}
	}
	return saved
}

// stampBitmaps notes what the disks look like after QEMU has ended.
func (s *Site) stampBitmaps(d *Definition, r *record, saved []string) {
	for _, disk := range d.Disks {
		for _, key := range saved {
			if key != disk.Key {
				continue
			}
			// The stamp of a device says nothing about what is on it.
			if info, err := os.Stat(s.diskPath(disk)); err == nil && info.Mode().IsRegular() {
				if r.Bitmaps == nil {
					r.Bitmaps = map[string]savedBitmaps{}
				}
				r.Bitmaps[key] = savedBitmaps{info.Size(), info.ModTime()}
			}
		}
	}
}

// loadBitmaps gives the raw disks of a QEMU that has not yet written to them their
// saved bitmaps, and deletes the files.
func (s *Site) loadBitmaps(ctx context.Context, d *Definition, r *record, monitor fleece.Monitor) error {
	for _, disk := range d.Disks {
		file := s.bitmapFile(d.Name, disk.Key)
		if disk.Format != "raw" || !exists(file) {
			continue
		}
		stamp, ok := r.Bitmaps[disk.Key]
		info, err := os.Stat(s.diskPath(disk))
		if err == nil && ok && info.Mode().IsRegular() && info.Size() == stamp.Size && info.ModTime().Equal(stamp.Modified) {
			// A bitmap that cannot be loaded is one that is lost: the next capture
			// says so and reads the disk in full.
			_ = fleece.LoadBitmaps(ctx, monitor, diskNode(disk.Key), bitmapNode(disk.Key), file)
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("machine %s: delete the saved bitmaps of disk %s before it is written to: %w", d.Name, disk.Key, err)
		}
	}
	if r.Bitmaps == nil {
		return nil
	}
	r.Bitmaps = nil
	return s.writeRecord(d.Name, *r)
}
