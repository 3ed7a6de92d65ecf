//go:build linux

package libvirt_test

import (
	"context"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/replication"
)

// TestASnapshotOfSomebodyElseIsNoDelta: libvirt gives the overlay that it makes for a
// snapshot bitmaps of the names that are below, empty ones. What was written before the
// snapshot is not in them.
func TestASnapshotOfSomebodyElseIsNoDelta(t *testing.T) {
	s := newSession(t)
	m := s.source(t, "web01")
	h := s.host(t)
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := h.Start(ctx, m.Ref(), hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	take := func(point, since replication.PointID) map[string]hypervisor.CaptureMode {
		t.Helper()
		request := hypervisor.PointRequest{Ref: m.Ref(), Point: point, Disks: []string{"vda", "vdb"}}
		if since != "" {
			request.Since = map[string]replication.PointID{"vda": since, "vdb": since}
		}
		c, err := h.BeginPoint(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		modes := map[string]hypervisor.CaptureMode{}
		for _, d := range c.Disks() {
			modes[d.Key()] = d.Mode()
			t.Logf("point %s, disk %s: %s %s", point, d.Key(), d.Mode(), d.Reason())
		}
		if err := c.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		return modes
	}
	points := []replication.PointID{"20261127T100000.000Z-00000001", "20261127T100000.000Z-00000002", "20261127T100000.000Z-00000003", "20261127T100000.000Z-00000004"}
	take(points[0], "")
	if modes := take(points[1], points[0]); modes["vda"] != hypervisor.Delta || modes["vdb"] != hypervisor.Delta {
		t.Fatalf("before the snapshot: %v, want deltas", modes)
	}
	snapshot := `<domainsnapshot><name>by-others</name><disks><disk name='vda' snapshot='no'/><disk name='vdb' snapshot='external'/></disks></domainsnapshot>`
	if _, err := s.client.DomainSnapshotCreateXML(s.domain(t, m.Ref()), snapshot, uint32(rpc.DomainSnapshotCreateDiskOnly)); err != nil {
		t.Fatal(err)
	}
	if modes := take(points[2], points[1]); modes["vda"] != hypervisor.Delta || modes["vdb"] != hypervisor.Unknown {
		t.Errorf("after the snapshot of vdb: %v, want a delta and unknown", modes)
	}
	if modes := take(points[3], points[2]); modes["vda"] != hypervisor.Delta || modes["vdb"] != hypervisor.Delta {
		t.Errorf("when the overlay has a point of its own: %v, want deltas", modes)
	}

	// Off, the overlay alone would be read as mostly zeroes.
	if _, err := h.Stop(ctx, m.Ref(), 0); err != nil {
		t.Fatal(err)
	}
	refused := func(err error) bool { return err != nil && replication.AsProblem(err).Code == "kvm.stands-on" }
	if disk, err := h.OpenDisk(ctx, m.Ref(), "vdb", hypervisor.ReadOnly); !refused(err) {
		if err == nil {
			disk.Close()
		}
		t.Errorf("a disk that stands on another image was opened: %v", err)
	}
	if c, err := h.BeginPoint(ctx, hypervisor.PointRequest{Ref: m.Ref(), Point: "20261127T100000.000Z-00000005", Disks: []string{"vda", "vdb"}}); !refused(err) {
		if err == nil {
			c.Rollback(ctx)
		}
		t.Errorf("a machine that is off was captured, with a disk that stands on another image: %v", err)
	}
}
