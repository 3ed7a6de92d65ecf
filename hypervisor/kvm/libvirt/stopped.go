package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/replication"
)

// The disks of a domain that is off are opened by a [kvm.Site] whose machines never
// run. Each is named by its domain's UUID, and its definition is written anew each
// time: the domain's may have changed.

// ReadsStopped refuses when the daemon's host is another one: its images cannot be opened
// from here.
func (h *Host) ReadsStopped() error {
	if h.place.local() {
		return nil
	}
	return &replication.Problem{
		Code: "libvirt.far", Cause: fmt.Sprintf("libvirt's host %s is another one, and the disks of a machine that is off cannot be read there", h.uri.Host),
		Effect: "nothing was changed", Action: "run Riparo on that host", Remedy: replication.Stop, Err: hypervisor.ErrNotRunning,
	}
}

// shadow defines the machine of the site that stands for a domain.
func (h *Host) shadow(ctx context.Context, d *domain) (*kvm.Site, hypervisor.Ref, error) {
	if !h.place.local() {
		return nil, "", &replication.Problem{
			Code: "libvirt.far", Cause: fmt.Sprintf("%s is off, and its host %s is another one", d.Name, h.uri.Host), Effect: "its disks cannot be opened",
			Action: "start the machine, or run Riparo on that host", Remedy: replication.Retry, Err: hypervisor.ErrNotRunning,
		}
	}
	site, err := h.openSite(ctx)
	if err != nil {
		return nil, "", err
	}
	definition := kvm.Definition{Name: d.UUID, MemoryMiB: 16, CPUs: 1}
	for _, k := range d.disks() {
		if obstacle(k) != "" {
			continue
		}
		shadow := kvm.DiskDefinition{Key: k.Target.Device, Path: k.Source.path(), Format: k.Driver.Type}
		if k.Chain != nil && k.Chain.Source != nil && k.Chain.Source.Protocol == "nbd" {
			shadow.Backing = uriOf(k.Chain.Source)
		}
		definition.Disks = append(definition.Disks, shadow)
	}
	if err := site.Define(definition); err != nil {
		return nil, "", err
	}
	return site, hypervisor.Ref(d.UUID), nil
}

// siteFolder is where the site of the domains that are off lies. It is not the folder
// of the scratch files: only this process works there, and not QEMU's user.
func (h *Host) siteFolder() string { return filepath.Join(h.options.Folder, "stopped") }

func (h *Host) openSite(ctx context.Context) (*kvm.Site, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.site != nil {
		return h.site, nil
	}
	if err := os.MkdirAll(h.siteFolder(), 0o700); err != nil {
		return nil, fmt.Errorf("open %s: %w", h.address, err)
	}
	site, err := kvm.Open(ctx, h.siteFolder(), kvm.Options{})
	if err != nil {
		return nil, err
	}
	h.site = site
	return site, nil
}

// forgetShadow removes what was kept for a domain that is gone.
func (h *Host) forgetShadow(uuid string) error {
	if !h.place.local() {
		return nil
	}
	return errors.Join(os.RemoveAll(filepath.Join(h.siteFolder(), uuid+".json")), os.RemoveAll(filepath.Join(h.siteFolder(), "run", uuid)))
}

// beginStopped captures a domain that is off.
func (h *Host) beginStopped(ctx context.Context, d *domain, request hypervisor.PointRequest, clean bool) (hypervisor.Capture, error) {
	site, ref, err := h.shadow(ctx, d)
	if err != nil {
		return nil, err
	}
	request.Ref = ref
	c, err := site.BeginPoint(ctx, request)
	if err != nil {
		return nil, err
	}
	return &stoppedCapture{c, clean}, nil
}

// stoppedCapture knows from libvirt how the domain ended.
type stoppedCapture struct {
	hypervisor.Capture
	clean bool
}

func (c *stoppedCapture) Instant() hypervisor.Instant {
	instant := c.Capture.Instant()
	instant.Consistency = replication.CrashConsistent
	if c.clean {
		instant.Consistency = replication.Clean
		instant.Warnings = nil
	}
	return instant
}

func (h *Host) forgetStopped(ctx context.Context, d *domain) error {
	site, ref, err := h.shadow(ctx, d)
	if err != nil {
		return err
	}
	return site.Forget(ctx, ref)
}

// Stamp tells what the images of a domain that is off look like. Those on another host
// cannot be looked at.
func (h *Host) Stamp(ctx context.Context, ref hypervisor.Ref) (string, error) {
	_, release, err := h.hold(ctx, ref)
	if err != nil {
		return "", err
	}
	defer release()
	dom, err := h.find(ctx, ref)
	if err != nil {
		return "", err
	}
	state, _, err := h.power(ctx, dom)
	if err != nil || powerOf(state) != hypervisor.Stopped || !h.place.local() {
		return "", err
	}
	d, err := h.describe(ctx, dom, rpc.DomainXMLInactive)
	if err != nil {
		return "", err
	}
	site, shadow, err := h.shadow(ctx, d)
	if err != nil {
		return "", err
	}
	return site.Stamp(ctx, shadow)
}

// OpenDisk opens a disk of a domain that is off.
func (h *Host) OpenDisk(ctx context.Context, ref hypervisor.Ref, key string, mode hypervisor.OpenMode) (hypervisor.OpenedDisk, error) {
	_, release, err := h.hold(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer release()
	dom, err := h.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	state, _, err := h.power(ctx, dom)
	if err != nil {
		return nil, err
	}
	if powerOf(state) != hypervisor.Stopped {
		return nil, &replication.Problem{
			Code: "kvm.runs", Cause: fmt.Sprintf("machine %s runs", dom.Name), Effect: "its disks cannot be opened beside it",
			Action: "stop the machine first", Remedy: replication.Retry,
		}
	}
	d, err := h.describe(ctx, dom, rpc.DomainXMLInactive)
	if err != nil {
		return nil, err
	}
	if _, ok := d.disk(key); !ok {
		return nil, noDisk(d.Name, key, replication.Stop)
	}
	site, shadow, err := h.shadow(ctx, d)
	if err != nil {
		return nil, err
	}
	return site.OpenDisk(ctx, shadow, key, mode)
}
