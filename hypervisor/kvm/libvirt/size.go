package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor/kvm/fleece"
)

// sizes gives a way to ask for the sizes of a domain's disks as the guest sees them.
//
// For a domain that runs libvirt's own answer has QEMU list all its nodes, which QEMU does
// not survive in the moment when a disk has been copied from what was below it; see
// [fleece.Nodes]. Where something is below a disk such a copy may be on its way, also one
// that somebody else began. Then QEMU is asked for its drives, which is no danger.
func (h *Host) sizes(ctx context.Context, dom rpc.Domain, d *domain) (func(disk) (int64, error), error) {
	if d.ID > 0 && slices.ContainsFunc(d.disks(), func(k disk) bool { return k.hasBacking() }) {
		all, err := h.drives(ctx, dom)
		if err == nil {
			return all.size, nil
		}
		if !errors.Is(err, fleece.ErrEnded) { // then libvirt looks into the images
			return nil, err
		}
	}
	return func(k disk) (int64, error) {
		size, err := call(ctx, h, func(l *rpc.Libvirt) (uint64, error) {
			_, capacity, _, err := l.DomainGetBlockInfo(dom, k.Target.Device, 0)
			return capacity, err
		})
		return inSectors(int64(size)), err
	}, nil
}

// inSectors: QEMU counts so, and the rest of a file that ends within one is zero.
func inSectors(size int64) int64 { return (size + 511) / 512 * 512 }

// drives are what the block devices of a QEMU hold, as query-block tells of it.
type drives []drive

type drive struct {
	Device   string `json:"qdev"`
	Inserted struct {
		Image struct {
			Size int64 `json:"virtual-size"`
		} `json:"image"`
	} `json:"inserted"`
}

func (h *Host) drives(ctx context.Context, dom rpc.Domain) (drives, error) {
	var all drives
	err := monitor{h, dom}.Execute(ctx, "query-block", nil, &all)
	return all, err
}

// of finds the drive of a disk: QEMU's devices are named by libvirt's aliases.
func (all drives) of(k disk) (drive, bool) {
	if k.Alias == nil {
		return drive{}, false
	}
	i := slices.IndexFunc(all, func(b drive) bool { return strings.Contains(b.Device+"/", "/"+k.Alias.Name+"/") })
	if i < 0 {
		return drive{}, false
	}
	return all[i], true
}

func (all drives) size(k disk) (int64, error) {
	b, ok := all.of(k)
	if !ok {
		return 0, fmt.Errorf("QEMU has no device for disk %s", k.Target.Device)
	}
	return inSectors(b.Inserted.Image.Size), nil
}
