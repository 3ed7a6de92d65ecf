package vault

import (
	"context"
	"fmt"
	"sync"
	"time"

	"riparo/replication"
)

// Codes of the problems of a vault that will not take more, though it could.
const (
	CodeWatermark = "vault.full.watermark" // the file system is nearly full
	CodeDiskLimit = "vault.full.disk"      // the disk has what it may have
)

// Watermark is how little may be free of the file system under the vault: it is
// reached when less than the fraction, or less than the bytes, is free.
type Watermark struct {
	Fraction float64
	Bytes    int64
}

// Limits bound the room that a vault takes. The zero value bounds nothing.
//
// Below Slow each write is delayed, the longer the less is free; below Stop writes are
// refused until there is room again. Marks, drops, locks, reads and views always work,
// and nothing is ever dropped to make room but by those who may: no point is the price
// of a write.
type Limits struct {
	Warn, Slow, Stop Watermark
	// DiskBytes is the most that the files of one disk may take; 0 is no limit.
	DiskBytes int64
	// Reserve is kept in a file, to be given up when somebody else fills the file
	// system: with it, points can still be closed and let go. 0 keeps none.
	Reserve int64
	// Thin asks for retention to be applied now, when writes begin to be slowed down;
	// nil asks nobody. It is called in the background, one call at a time.
	Thin func(context.Context)
}

// DefaultLimits suit a file system that is the vault's own.
func DefaultLimits() Limits {
	return Limits{
		// A fifth free: about a week to order a disk, at the growth of a usual site.
		Warn: Watermark{Fraction: 0.20, Bytes: 16 << 30},
		// A tenth: file systems get slow, and a day is left to do something.
		Slow: Watermark{Fraction: 0.10, Bytes: 8 << 30},
		// What marks, maps and a compaction need for weeks without any new data.
		Stop:    Watermark{Fraction: 0.03, Bytes: 2 << 30},
		Reserve: 64 << 20,
	}
}

// Level is how short of room a vault is.
type Level int

const (
	Roomy Level = iota
	Warning
	Slowed
	Stopped
)

func (l Level) String() string { return [...]string{"roomy", "warning", "slowed", "stopped"}[l] }

// Pressure is how a vault stands to its limits, in bytes.
type Pressure struct {
	Level            Level
	Total            int64 // of the file system
	Free             int64 // of it, less what is being written
	Warn, Slow, Stop int64 // free bytes below which the levels begin
	Delay            time.Duration
	// Full are the disks that have what they may have.
	Full []replication.DiskID
}

const (
	// measureBytes and measureAfter are how often the room is measured again while
	// somebody writes: what is written in between is counted.
	measureBytes = 64 << 20
	measureAfter = time.Second
	// longestDelay is what a write of 4 MiB waits just before writes are refused: one
	// disk then sends 2 MB/s, and its sender does not take it for lost.
	longestDelay = 2 * time.Second
	// recordRoom is what a record takes beside its data: header, table, padding.
	recordRoom = 2 * alignment
)

// gauge counts what a vault or a disk takes between two measurements.
type gauge struct {
	mu      sync.Mutex // guards all below
	at      time.Time  // of the last measurement
	value   int64      // that was measured
	total   int64      // of the file system; 0 for a disk
	since   int64      // written after it
	pending int64      // admitted and not written yet
}

// measured measures again if that is due.
func (r *gauge) measured(now time.Time, measure func() (value, total int64, err error)) error {
	r.mu.Lock()
	due := r.at.IsZero() || r.since >= measureBytes || now.Sub(r.at) >= measureAfter || now.Before(r.at)
	written := r.since
	r.mu.Unlock()
	if !due {
		return nil
	}
	value, total, err := measure()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.value, r.total = now, value, total
	r.since -= written
	return nil
}

// take notes bytes that are about to be written.
func (r *gauge) take(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending += bytes
}

// settle notes that they were written, or not.
func (r *gauge) settle(bytes int64, written bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending -= bytes
	if written {
		r.since += bytes
	}
}

// SetLimits changes the limits; they hold for what is written from now on.
func (v *Vault) SetLimits(l Limits) error {
	v.limits.Store(&l)
	if err := v.writable(); err != nil {
		return err
	}
	return v.fillReserve()
}

// Pressure tells how the vault stands to its limits.
func (v *Vault) Pressure() Pressure {
	l := v.limits.Load()
	if l == nil {
		return Pressure{}
	}
	p := v.pressure(l)
	for _, d := range v.list() {
		if l.DiskBytes > 0 && d.taken() >= l.DiskBytes {
			p.Full = append(p.Full, d.id)
		}
	}
	return p
}

func (v *Vault) pressure(l *Limits) Pressure {
	err := v.filled.measured(v.now(), func() (int64, int64, error) {
		s, err := v.fs.Space(v.dir)
		return s.Free, s.Total, err
	})
	v.filled.mu.Lock()
	p := Pressure{Total: v.filled.total, Free: v.filled.value - v.filled.since - v.filled.pending}
	v.filled.mu.Unlock()
	if err != nil || p.Total == 0 {
		return Pressure{} // not known: the file system itself will tell when it is full
	}
	p.Warn, p.Slow, p.Stop = l.Warn.bytes(p.Total), l.Slow.bytes(p.Total), l.Stop.bytes(p.Total)
	switch {
	case p.Free < p.Stop:
		p.Level, p.Delay = Stopped, longestDelay
	case p.Free < p.Slow:
		p.Level = Slowed
		p.Delay = time.Duration(float64(longestDelay) * float64(p.Slow-p.Free) / float64(p.Slow-p.Stop))
	case p.Free < p.Warn:
		p.Level = Warning
	}
	return p
}

func (w Watermark) bytes(total int64) int64 { return max(int64(w.Fraction*float64(total)), w.Bytes) }

// taken is what the files of the disk take, with what is being written.
func (d *disk) taken() int64 {
	// The folder cannot fail to be listed but when the disk is erased.
	_ = d.taking.measured(d.vault.now(), func() (int64, int64, error) {
		stored, _ := d.storedBytes()
		return stored, 0, nil
	})
	d.taking.mu.Lock()
	defer d.taking.mu.Unlock()
	return d.taking.value + d.taking.since + d.taking.pending
}

// enter lets a batch in, or tells why not; it may wait. leave is to be called when
// the batch was written or not.
func (v *Vault) enter(ctx context.Context, d *disk, b *replication.Batch) (leave func(written bool), err error) {
	l := v.limits.Load()
	if l == nil {
		return func(bool) {}, nil
	}
	bytes := int64(recordRoom)
	for _, c := range b.Changes {
		bytes += int64(len(c.Data)) + blockRowSize
	}
	// Counted before it is looked at, so that two who come together see each other.
	v.filled.take(bytes)
	d.taking.take(bytes)
	leave = func(written bool) {
		v.filled.settle(bytes, written)
		d.taking.settle(bytes, written)
	}
	p := v.pressure(l)
	if p.Level >= Slowed {
		v.askForThinning()
	}
	switch {
	case p.Level == Stopped:
		err = watermarkProblem(d.id, p)
	case l.DiskBytes > 0 && d.taken() > l.DiskBytes:
		v.askForThinning()
		err = diskLimitProblem(d.id, l.DiskBytes)
	case p.Level == Slowed:
		err = sleep(ctx, time.Duration(float64(p.Delay)*float64(bytes)/replication.MaxBatchBytes))
	}
	if err != nil {
		leave(false)
		return nil, err
	}
	return leave, nil
}

func watermarkProblem(disk replication.DiskID, p Pressure) error {
	return &replication.Problem{
		Code:   CodeWatermark,
		Cause:  fmt.Sprintf("the file system under the vault has %d MiB free, and takes new data of disk %s from %d MiB on", max(p.Free, 0)>>20, disk, p.Stop>>20),
		Effect: "replication waits; every acknowledged change and every recovery point is safe",
		Action: "add space or shorten the retention; it goes on by itself",
		Remedy: replication.Retry,
	}
}

func diskLimitProblem(disk replication.DiskID, limit int64) error {
	return &replication.Problem{
		Code:   CodeDiskLimit,
		Cause:  fmt.Sprintf("disk %s may take %d MiB in the vault, and has them", disk, limit>>20),
		Effect: "its replication waits; its recovery points are safe, and other disks go on",
		Action: "raise the limit or shorten the retention; it goes on by itself",
		Remedy: replication.Retry,
	}
}

// askForThinning asks for retention to be applied and waste to be compacted.
func (v *Vault) askForThinning() {
	select {
	case v.thin <- struct{}{}:
	default:
	}
}

// thinning does what is asked for, until ctx is done.
func (v *Vault) thinning(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.thin:
		}
		if l := v.limits.Load(); l != nil && l.Thin != nil {
			l.Thin(ctx)
		}
		for _, d := range v.list() {
			v.ask(v.wasteful, v.waste, d)
		}
		if sleep(ctx, thinAgain) != nil {
			return
		}
	}
}

// thinAgain is how often thinning is asked for while it is needed.
const thinAgain = time.Minute

// short reports whether room is short, so that compaction hurries and leaves less.
func (v *Vault) short() bool {
	l := v.limits.Load()
	return l != nil && v.pressure(l).Level >= Slowed
}
