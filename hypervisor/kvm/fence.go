package kvm

import (
	"context"

	"riparo/hypervisor"
)

// Fence keeps a machine from being started, by a mark in its definition that Start
// obeys. Whoever runs QEMU by hand on the machine's disks is not kept from it.
func (s *Site) Fence(ctx context.Context, ref hypervisor.Ref, reason string) error {
	return s.setFence(ctx, ref, true, reason)
}

// Unfence lets it start again.
func (s *Site) Unfence(ctx context.Context, ref hypervisor.Ref) error {
	return s.setFence(ctx, ref, false, "")
}

func (s *Site) setFence(ctx context.Context, ref hypervisor.Ref, fenced bool, reason string) error {
	d, err := s.load(ref)
	if err != nil {
		return err
	}
	_, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return err
	}
	defer release()
	if d, err = s.load(ref); err != nil {
		return err
	}
	if d.Fenced == fenced && d.FenceReason == reason {
		return nil
	}
	d.Fenced, d.FenceReason = fenced, reason
	return s.Define(*d)
}
