package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/replication"
)

// streamLook is how often progress is asked for.
const streamLook = 250 * time.Millisecond

// Flatten lets libvirt copy what the overlays still read from below into them
// (virDomainBlockPull). The job runs inside QEMU and goes on when this process ends; a
// second call joins it.
func (h *Host) Flatten(ctx context.Context, ref hypervisor.Ref, progress func(done, total int64)) error {
	dom, err := h.find(ctx, ref)
	if err != nil {
		return err
	}
	if err := h.uncaptured(ctx, ref, dom, func() error { return nil }); err != nil {
		return err
	}
	state, _, err := h.power(ctx, dom)
	if err != nil {
		return err
	}
	d, err := h.describe(ctx, dom, 0)
	if err != nil {
		return err
	}
	if powerOf(state) == hypervisor.Stopped {
		return h.flattenStopped(ctx, dom, d, progress)
	}
	var done, total int64
	sizes := map[string]int64{}
	sizeOf, err := h.sizes(ctx, dom, d)
	if err != nil {
		return fmt.Errorf("flatten %s: %w", d.Name, err)
	}
	for _, k := range d.disks() {
		if k.hasBacking() {
			if sizes[k.Target.Device], err = sizeOf(k); err != nil {
				return fmt.Errorf("flatten %s: %w", d.Name, err)
			}
			total += sizes[k.Target.Device]
		}
	}
	for _, k := range d.disks() {
		key := k.Target.Device
		if !k.hasBacking() {
			continue
		}
		report := func(current int64) {
			if progress != nil {
				progress(done+min(current, sizes[key]), total)
			}
		}
		if err := h.pull(ctx, ref, dom, key, report); err != nil {
			return fmt.Errorf("flatten %s: disk %s: %w", d.Name, key, err)
		}
		done += sizes[key]
		report(0)
	}
	return nil
}

// uncaptured does something with a domain that has no open capture, while it is held: what
// begins a copy must not come while a capture asks QEMU for its nodes, see [fleece.Nodes].
func (h *Host) uncaptured(ctx context.Context, ref hypervisor.Ref, dom rpc.Domain, f func() error) error {
	p, release, err := h.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer release()
	if p.capture != nil {
		return &replication.Problem{
			Code: "kvm.captured", Cause: fmt.Sprintf("a recovery point of %s is being read", dom.Name), Effect: "the copy did not begin",
			Action: "it is tried again when that has ended", Remedy: replication.Retry,
		}
	}
	return f()
}

// hasBacking reports whether something lies below the disk's image.
func (k *disk) hasBacking() bool { return k.Chain != nil && k.Chain.Source != nil }

// pull runs the job of one disk to its end. When ctx ends, the job goes on.
func (h *Host) pull(ctx context.Context, ref hypervisor.Ref, dom rpc.Domain, key string, report func(current int64)) error {
	tick := time.NewTicker(streamLook)
	defer tick.Stop()
	type job struct {
		found        bool
		current, end uint64
	}
	for started := false; ; started = true {
		j, err := call(ctx, h, func(l *rpc.Libvirt) (job, error) {
			found, _, _, current, end, err := l.DomainGetBlockJobInfo(dom, key, 0)
			return job{found != 0, current, end}, err
		})
		if err != nil {
			return err
		}
		if !j.found {
			d, err := h.describe(ctx, dom, 0)
			if err != nil {
				return err
			}
			k, ok := d.disk(key)
			switch {
			case !ok:
				return errors.New("the disk has vanished")
			case !k.hasBacking():
				return nil
			case started:
				return &replication.Problem{
					Code: "kvm.stream", Cause: "the copy from the recovery point ended early", Effect: "what was copied is kept; the machine runs on its overlay",
					Action: "check that the recovery point is being served and that the host has room", Remedy: replication.Retry,
				}
			}
			if err := h.uncaptured(ctx, ref, dom, func() error { return h.beginPull(ctx, dom, key) }); err != nil {
				return err
			}
			continue
		}
		report(int64(j.current))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (h *Host) beginPull(ctx context.Context, dom rpc.Domain, key string) error {
	if err := do(ctx, h, func(l *rpc.Libvirt) error { return l.DomainBlockPull(dom, key, 0, 0) }); err != nil {
		return &replication.Problem{
			Code: "kvm.stream", Cause: fmt.Sprintf("the disk cannot be made independent now: %v", err), Effect: "the machine runs on its overlay",
			Action: "it is tried again; an open capture of the machine has to end first", Remedy: replication.Retry, Err: err,
		}
	}
	return nil
}

// flattenStopped copies into the disks of a domain that is off, and takes what was
// below them out of its definition.
func (h *Host) flattenStopped(ctx context.Context, dom rpc.Domain, d *domain, progress func(done, total int64)) error {
	below := false
	for _, k := range d.disks() {
		below = below || k.hasBacking()
	}
	if !below {
		return nil
	}
	if d.marked().Owner == "" {
		return fmt.Errorf("flatten %s: %w", d.Name, hypervisor.ErrNotOurs)
	}
	site, ref, err := h.shadow(ctx, d)
	if err != nil {
		return err
	}
	if err := site.Flatten(ctx, ref, progress); err != nil {
		return err
	}
	for i := range d.Devices.Disks {
		d.Devices.Disks[i].Chain = &chain{}
	}
	text, err := encode(d)
	if err != nil {
		return err
	}
	return do(ctx, h, func(l *rpc.Libvirt) error { _, err := l.DomainDefineXML(text); return err })
}
