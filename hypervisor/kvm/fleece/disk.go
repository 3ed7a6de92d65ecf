package fleece

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/nbd"
)

// CapturedDisk is one disk of a capture. It is a [hypervisor.CapturedDisk].
type CapturedDisk struct {
	capture *Capture
	key     string
	node    string
	size    int64
	plan    plan

	client  *nbd.Client // the instant
	witness *witness    // nil when no guest can write
}

// connections to read one disk over: more do not make QEMU faster.
const connections = 4

// dial opens the disk's view. guest says that a guest may write meanwhile.
func (d *CapturedDisk) dial(ctx context.Context, guest bool) error {
	m := d.capture.machine
	contexts := []string{nbd.AllocationContext}
	if d.plan.mode == hypervisor.Delta {
		contexts = append(contexts, nbd.DirtyBitmapPrefix+d.plan.base)
	}
	if guest {
		contexts = append(contexts, depthContext)
	}
	client, err := nbd.DialAddress(ctx, nbd.Address{Network: "unix", Address: m.Socket, Export: d.key},
		nbd.Options{Contexts: contexts, Connections: connections, Dial: m.Dial})
	if err != nil {
		return err
	}
	d.client = client
	if client.Size() != d.size {
		return fmt.Errorf("disk %s: QEMU serves %d bytes of a disk of %d bytes", d.key, client.Size(), d.size)
	}
	if guest && d.size > 0 {
		d.witness, err = dialWitness(ctx, m, d.key)
	}
	return err
}

func (d *CapturedDisk) close() {
	if d.client != nil {
		d.client.Close()
	}
	if d.witness != nil {
		d.witness.client.Close()
	}
}

// Key is the disk's.
func (d *CapturedDisk) Key() string { return d.key }

// Mode says what Regions yields.
func (d *CapturedDisk) Mode() hypervisor.CaptureMode { return d.plan.mode }

// Reason says why Mode is Unknown.
func (d *CapturedDisk) Reason() string { return d.plan.reason }

// Size of the disk at the instant, in bytes.
func (d *CapturedDisk) Size() int64 { return d.size }

// ReadAt reads the disk of the instant.
func (d *CapturedDisk) ReadAt(p []byte, offset int64) (int, error) {
	n, err := d.client.ReadAt(p, offset)
	if err == nil || errors.Is(err, io.EOF) {
		if settled := d.settle(p[:n], offset); settled != nil {
			return 0, d.problem(settled)
		}
		return n, err
	}
	return n, d.problem(err)
}

// settle makes what was just read be of the instant. The guest may have overtaken the
// read: QEMU found nothing of a place in the scratch files and went to the disk, and
// before it got there the guest had written. Whatever was overtaken is in the scratch
// files by now, so what they hold is read again: from them, where nothing changes any
// more.
func (d *CapturedDisk) settle(p []byte, offset int64) error {
	if d.witness == nil {
		return nil
	}
	kept, err := d.kept(context.Background(), replication.Extent{Offset: offset, Length: int64(len(p))})
	if err != nil {
		return err
	}
	for _, e := range kept {
		if _, err := d.client.ReadAt(p[e.Offset-offset:e.End()-offset], e.Offset); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return d.confirm()
}

// Regions yields what there is to read.
func (d *CapturedDisk) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for region, err := range d.regions(ctx) {
			if !yield(region, d.problem(err)) || err != nil {
				return
			}
		}
	}
}

// confirm reports an error unless everything that was read so far is of the instant.
func (d *CapturedDisk) confirm() error {
	if d.witness == nil {
		return nil
	}
	return d.witness.confirm()
}

// takeBack gives the actions that undo the instant for this disk: what changed since
// goes back into the bitmap of the last point.
func (d *CapturedDisk) takeBack() []args {
	undo := plan{base: d.plan.base, enable: true, merge: []string{Bitmap(d.capture.point, d.key)}}
	if d.plan.mode != hypervisor.Delta {
		undo = plan{remove: undo.merge}
	}
	return undo.restore(d.node)
}

func (d *CapturedDisk) problem(err error) error {
	if err == nil {
		return nil
	}
	if d.capture.superseded.Load() {
		return d.capture.machine.supersededProblem(d.capture.point)
	}
	return d.capture.machine.readProblem(d.key, d.capture.gaveUp.Load(), err)
}
