//go:build unix

package kvm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/kvmtest"
)

const envStart = "RIPARO_TEST_START_IN"

// TestAKilledProgramDoesNotTakeItsMachinesAlong starts a machine from another process
// and kills that one, with all of its process group.
func TestAKilledProgramDoesNotTakeItsMachinesAlong(t *testing.T) {
	if folder := os.Getenv(envStart); folder != "" {
		startAndDie(t, folder)
	}
	needQEMU(t)
	folder := t.TempDir()
	s, err := kvm.Open(t.Context(), folder, kvm.Options{Accelerator: "tcg"})
	if err != nil {
		t.Fatal(err)
	}
	kvmtest.Image(t, filepath.Join(folder, "vda"), "raw", kvmtest.Disks()["vda"])
	if err := s.Define(kvm.Definition{Name: "web01", MemoryMiB: 32, CPUs: 1, Disks: []kvm.DiskDefinition{{Key: "vda", Path: "vda", Format: "raw"}}}); err != nil {
		t.Fatal(err)
	}
	other := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	other.Env = append(os.Environ(), envStart+"="+folder)
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := other.Run(); err == nil {
		t.Fatal("the other process was not killed")
	}
	m, err := s.Machine(t.Context(), "web01")
	if err != nil || m.Power != hypervisor.Running {
		t.Errorf("after its starter was killed the machine is %s, %v", m.Power, err)
	}
	// The killed process held a connection; it keeps nobody out.
	if outcome, err := s.Stop(t.Context(), "web01", 0); err != nil || outcome != hypervisor.PoweredOff {
		t.Errorf("stop: %s, %v", outcome, err)
	}
}

// startAndDie is the other process: it ends in the middle of a capture.
func startAndDie(t *testing.T, folder string) {
	s, err := kvm.Open(t.Context(), folder, kvm.Options{Accelerator: "tcg"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), "web01", hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: "web01", Point: "1", Disks: []string{"vda"}}); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(0, syscall.SIGKILL)
}
