package protection

import (
	"context"
	"testing"

	"riparo/hypervisor"
	"riparo/replication"
)

// canceledBetween is a vault where the cycle is canceled when the first mark is written.
type canceledBetween struct {
	Vault
	cancel context.CancelCauseFunc
}

func (v canceledBetween) Mark(ctx context.Context, m replication.Mark) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := v.Vault.Mark(ctx, m)
	v.cancel(errHeld)
	return err
}

// TestAPointIsMarkedOnAllItsDisksOrNone: one that is canceled when the first disk has its
// mark comes to its end, and the next is a delta of both.
func TestAPointIsMarkedOnAllItsDisksOrNone(t *testing.T) {
	p, m := labMachine(t, "vda", "vdb")
	policy := replication.DefaultPolicy()
	if _, err := p.cycle(t.Context(), &m, policy, CycleOptions{}); err != nil {
		t.Fatal(err)
	}
	whole := p.sink
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	p.sink = canceledBetween{whole, cancel}
	out, err := p.cycle(ctx, &m, policy, CycleOptions{})
	if err != nil || context.Cause(ctx) == nil {
		t.Errorf("the cycle ended with %v, and its context with %v; want a point, and a cancel", err, context.Cause(ctx))
	}
	p.sink = whole
	for _, d := range m.Disks {
		points, err := whole.Points(d.ID)
		if err != nil || len(points) != 2 || points[1].ID != out.Point.ID {
			t.Errorf("disk %s has the points %+v, %v; want two, the last %q", d.Key, points, err, out.Point.ID)
		}
	}
	if out, err = p.cycle(t.Context(), &m, policy, CycleOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range out.Disks {
		if d.Mode != hypervisor.Delta || d.Compared > 0 {
			t.Errorf("the next point of disk %s is %s, %d bytes compared, %s; want a delta", d.Key, d.Mode, d.Compared, d.Reason)
		}
	}
}
