package kvm_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
	"riparo/hypervisor/kvm/kvmtest"
)

// TestASiteInADeepFolderRuns: sockets have short paths, whatever the site's is; and
// commas in it are nothing to QEMU.
func TestASiteInADeepFolderRuns(t *testing.T) {
	needQEMU(t)
	folder := filepath.Join(t.TempDir(), "a, b", strings.Repeat("deep/", 20))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := kvm.Open(t.Context(), folder, kvm.Options{Accelerator: "tcg"})
	if err != nil {
		t.Fatal(err)
	}
	kvmtest.Image(t, filepath.Join(folder, "vda"), "raw", kvmtest.Disks()["vda"])
	if err := s.Define(kvm.Definition{Name: "web01", Owner: "m-1/test", MemoryMiB: 32, CPUs: 1, DiskBus: "sata",
		Disks: []kvm.DiskDefinition{{Key: "sda", Path: "vda", Format: "raw"}}}); err != nil {
		t.Fatal(err)
	}
	ref := hypervisor.Ref("web01")
	t.Cleanup(func() {
		if err := s.Remove(context.Background(), ref); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context(), ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	read := func() []byte { said, _ := s.Console(t.Context(), ref, 1000); return said }
	if _, err := guest.WaitLine(t.Context(), read, "hello"); err != nil {
		t.Fatal(err)
	}
	// A SATA disk is captured as well.
	c, err := s.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: ref, Point: "1", Disks: []string{"sda"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bringForward(t.Context(), c.Disks()[0], filepath.Join(t.TempDir(), "copy")); err != nil {
		t.Error(err)
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if outcome, err := s.Stop(t.Context(), ref, 10*time.Millisecond); err != nil || outcome != hypervisor.PoweredOff {
		t.Errorf("stop: %s, %v", outcome, err)
	}
}
