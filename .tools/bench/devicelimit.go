package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// device is the disk below the folder of the run, as the system counts it.
type device struct{ stat string }

// deviceOf finds it. Some file systems have none of their own: then it counts nothing.
func deviceOf(dir string) (device, error) {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return device{}, fmt.Errorf("look for the disk of %s: %w", dir, err)
	}
	d := device{stat: fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(s.Dev), unix.Minor(s.Dev))}
	if _, err := os.Stat(d.stat); err != nil {
		return device{}, nil
	}
	return d, nil
}

func (d device) known() bool { return d.stat != "" }

// moved is how many bytes were read from a disk and written to it since the start of the
// system, or how many are in a second.
type moved struct{ read, written float64 }

func (d device) moved() (m moved, err error) {
	if !d.known() {
		return m, nil
	}
	p, err := os.ReadFile(d.stat)
	if err != nil {
		return m, err
	}
	f := strings.Fields(string(p))
	if len(f) < 7 {
		return m, fmt.Errorf("%s has %d fields", d.stat, len(f))
	}
	read, err := strconv.ParseFloat(f[2], 64)
	if err != nil {
		return m, err
	}
	written, err := strconv.ParseFloat(f[6], 64)
	// The system counts sectors of 512 bytes, whatever the disk has.
	return moved{read * 512, written * 512}, err
}

// rates are what a disk does at most, in bytes a second.
type rates struct {
	Read    float64 `json:"read"`
	Written float64 `json:"written"`
	Both    float64 `json:"both"` // read and written at once, in sum
}

// share is how much of what the disk can do was done: at 1 it is the limit.
func (r rates) share(m moved) float64 {
	all := m.read + m.written
	switch {
	case m.written < all/20:
		return m.read / r.Read
	case m.read < all/20:
		return m.written / r.Written
	}
	return all / r.Both
}

const (
	probePiece = 4 << 20
	probeDepth = 4
	probeTime  = 1500 * time.Millisecond
)

// probe finds out the rates: it reads the image and writes a file past the page cache,
// each alone and both at once. What the page cache holds of the image is dropped before:
// direct access has to give it up page by page.
func (b *bench) probe() (r rates, err error) {
	if canCool() {
		if err := cool(); err != nil {
			return r, err
		}
	}
	from, err := os.OpenFile(b.path("disk.raw"), os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := os.OpenFile(b.path("out"), os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_DIRECT, 0o600)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, to.Close(), os.Remove(to.Name())) }()
	pieces, err := piecesWithData(from, b.scale.size)
	if err != nil {
		return r, err
	}
	// What was never written is quicker than what is written again: a vault appends.
	if err := unix.Fallocate(int(to.Fd()), 0, 0, b.scale.data); err != nil {
		return r, err
	}
	var read, written atomic.Int64
	reader := turns(&read, int64(len(pieces)), func(p []byte, n int64) error {
		_, err := from.ReadAt(p, pieces[n])
		return err
	})
	writer := turns(&written, b.scale.data/probePiece, func(p []byte, n int64) error {
		_, err := to.WriteAt(p, n*probePiece)
		return err
	})
	rate := func(jobs ...func(time.Time) error) (moved, error) {
		read.Store(0)
		written.Store(0)
		began := time.Now()
		failed := make([]error, len(jobs)*probeDepth)
		var all sync.WaitGroup
		for i := range failed {
			all.Go(func() { failed[i] = jobs[i%len(jobs)](began.Add(probeTime)) })
		}
		all.Wait()
		took := time.Since(began).Seconds()
		return moved{float64(read.Load()) / took, float64(written.Load()) / took}, errors.Join(failed...)
	}
	alone, err := rate(reader)
	if err != nil {
		return r, fmt.Errorf("find out how fast the disk reads: %w", err)
	}
	r.Read = alone.read
	if alone, err = rate(writer); err != nil {
		return r, fmt.Errorf("find out how fast the disk writes: %w", err)
	}
	r.Written = alone.written
	if alone, err = rate(reader, writer); err != nil {
		return r, fmt.Errorf("find out how fast the disk reads and writes: %w", err)
	}
	r.Both = alone.read + alone.written
	return r, nil
}

// turns gives what takes turns at count pieces, again from the first after the last, and
// adds up what it has moved.
func turns(sum *atomic.Int64, count int64, do func(p []byte, n int64) error) func(until time.Time) error {
	var next atomic.Int64
	return func(until time.Time) error {
		// Memory of its own mapping lies as direct access wants it, and in large pages if
		// there are some: a disk is read and written faster then.
		p, err := unix.Mmap(-1, 0, probePiece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		_ = unix.Madvise(p, unix.MADV_HUGEPAGE)
		for err == nil && time.Now().Before(until) {
			if err = do(p, (next.Add(1)-1)%count); err == nil {
				sum.Add(probePiece)
			}
		}
		return errors.Join(err, unix.Munmap(p))
	}
}

// piecesWithData are where whole pieces of data are in a file: a hole costs nothing to read.
func piecesWithData(f *os.File, size int64) ([]int64, error) {
	var pieces []int64
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, err
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		for p := (data + probePiece - 1) / probePiece * probePiece; p+probePiece <= hole; p += probePiece {
			pieces = append(pieces, p)
		}
		at = hole
	}
	if len(pieces) == 0 {
		return nil, fmt.Errorf("%s has no data", f.Name())
	}
	return pieces, nil
}
