package vault

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"riparo/replication"
)

// checker is what one core needs to verify segments: about 4 MiB, and at most the
// largest payload of a record more.
type checker struct {
	ahead lookahead
	plain [blockBytes]byte // a block as it decompresses
}

var checkers = sync.Pool{New: func() any { return new(checker) }}

// maxCheckers bounds the memory of a verification whatever the number of cores. Eight
// cores verify faster than any disk gives.
const maxCheckers = 8

// diskCheck is the verification of one disk, taken apart into its segments.
type diskCheck struct {
	check          // of what is not in a segment
	parts []*check // one for each segment, in their order
}

// verifyDisks verifies disks, as many segments at once as there are cores, and reports
// in the order of the disks and segments. It tells progress how many bytes were read
// and checked so far, and gives the damaged blocks in the order of the report.
func (v *Vault) verifyDisks(ctx context.Context, disks []*disk, report *VerifyReport, progress func(done int64)) (bad []badBlock, err error) {
	checks := make([]diskCheck, len(disks))
	work := make(chan func(*checker) error)
	read := make(chan int64)
	outer := ctx
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(work)
		for i, d := range disks {
			if err := checks[i].dispatch(ctx, d, work, read); err != nil {
				return fmt.Errorf("verify disk %s: %w", d.id, err)
			}
		}
		return nil
	})
	for range min(runtime.GOMAXPROCS(0), maxCheckers) {
		group.Go(func() error {
			k := checkers.Get().(*checker)
			defer checkers.Put(k)
			for check := range work {
				if err := check(k); err != nil {
					return err
				}
			}
			return nil
		})
	}
	failed := make(chan error, 1)
	go func() { // gone when the group is
		failed <- group.Wait()
		close(read)
	}()
	done := int64(0)
	for n := range read {
		done += n
		progress(done)
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	for i := range checks {
		if err := checks[i].finish(outer, report); err != nil {
			return bad, fmt.Errorf("verify disk %s: %w", disks[i].id, err)
		}
		bad = append(bad, checks[i].bad...)
	}
	return bad, nil
}

// dispatch verifies what is not in the segments of a disk, and hands these out. What
// was read is told to read.
func (c *diskCheck) dispatch(ctx context.Context, d *disk, work chan<- func(*checker) error, read chan<- int64) error {
	c.disk, c.report = d, &VerifyReport{}
	if d.sick != nil {
		c.report.Disks++
		c.report.Damage = append(c.report.Damage, Damage{Disk: d.id, Head: true, Reason: d.sick.Error()})
		return nil
	}
	numbers, tails, err := c.begin(ctx)
	if err != nil {
		return err
	}
	c.lost()
	if err := c.keys(); err != nil {
		return err
	}
	var under sync.WaitGroup // whoever was sent a segment comes to it
	for _, n := range numbers {
		part := &check{disk: d, report: &VerifyReport{}}
		c.parts = append(c.parts, part)
		under.Add(1)
		err := send(ctx, work, func(k *checker) error {
			defer under.Done()
			if err := part.segment(ctx, k, n, tails[n]); err != nil {
				return fmt.Errorf("verify disk %s: %w", d.id, err)
			}
			return send(ctx, read, part.report.Bytes)
		})
		if err != nil {
			return err
		}
	}
	under.Wait()
	sound := make(map[uint32][]replication.Extent, len(numbers))
	for i, n := range numbers {
		sound[n] = c.parts[i].sound
	}
	if err := c.derived(ctx, sound); err != nil {
		return err
	}
	return send(ctx, read, c.report.Bytes)
}

// send sends a value, unless ctx ends before.
func send[T any](ctx context.Context, to chan<- T, value T) error {
	select {
	case to <- value:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// finish adds what was found on a disk to the report, and who needs what is damaged.
func (c *diskCheck) finish(ctx context.Context, report *VerifyReport) error {
	for _, part := range c.parts {
		c.report.add(part.report)
		c.bad = append(c.bad, part.bad...)
	}
	report.add(c.report)
	c.disk.remember(c.bad)
	var list []*finding
	for _, b := range c.bad {
		f, err := c.disk.assess(ctx, finding{badBlock: b})
		if err != nil {
			return err
		}
		list = append(list, &f)
	}
	if len(list) == 0 {
		return nil
	}
	for _, damage := range c.disk.told(list) {
		damage.Harmless = !damage.Head && len(damage.Points) == 0
		report.Damage = append(report.Damage, damage)
	}
	return nil
}

// add adds what another report says.
func (r *VerifyReport) add(o *VerifyReport) {
	r.Disks += o.Disks
	r.Points += o.Points
	r.Segments += o.Segments
	r.Bytes += o.Bytes
	r.Damage = append(r.Damage, o.Damage...)
}
