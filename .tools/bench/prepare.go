package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"
)

// prepare makes the images, in a process of its own: a process that was large once
// would make every command that it starts look as large.
func (b *bench) prepare() error {
	fmt.Fprintf(os.Stderr, "%5.0f s  making the images: %d MiB with %d MiB of data\n", time.Since(b.began).Seconds(), b.scale.size>>20, b.scale.data>>20)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	arguments := []string{"--make", b.dir}
	if b.short {
		arguments = append(arguments, "--short")
	}
	out, err := exec.Command(self, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the images: %w\n%s", err, out)
	}
	return nil
}

// seed of all that is generated.
const seed = 7

// makeImages makes W1 (disk), W2 (day) and W3 (base, pages1, pages5).
func (b *bench) makeImages() error {
	d, err := makeDisk(b.path("disk.raw"), b.scale.size, b.scale.data, seed)
	if err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	if err := d.file.Close(); err != nil {
		return err
	}
	if _, err := b.sh(&work{}, "cp --sparse=always disk.raw day.raw"); err != nil {
		return err
	}
	if err := d.day(b.path("day.raw"), seed+1); err != nil {
		return fmt.Errorf("change a disk: %w", err)
	}
	if err := writeList(b.path("day.changed"), d.edits); err != nil {
		return err
	}
	if err := makeDatabase(b.path("base.raw"), b.scale.database, seed+2); err != nil {
		return fmt.Errorf("make a database: %w", err)
	}
	for _, percent := range []int{1, 5} {
		name := fmt.Sprintf("pages%d", percent)
		if _, err := b.sh(&work{}, "cp base.raw "+name+".raw"); err != nil {
			return err
		}
		if err := touchDatabase(b.path(name+".raw"), b.path(name+".changed"), float64(percent)/100, seed+3+uint64(percent)); err != nil {
			return fmt.Errorf("change a database: %w", err)
		}
	}
	return nil
}
