package kvm_test

import (
	"os/exec"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/providertest"
)

// needQEMU skips a test that runs QEMU without a guest.
func needQEMU(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs QEMU for some seconds: left out of the short run")
	}
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, program)
		}
	}
}

func TestTheSiteKeepsTheContractOfProviders(t *testing.T) {
	needQEMU(t)
	dir := t.TempDir()
	var site *kvm.Site
	open := func(t *testing.T) hypervisor.Provider {
		t.Helper()
		var err error
		if site, err = kvm.Open(t.Context(), dir, kvm.Options{Accelerator: "tcg"}); err != nil {
			t.Fatal(err)
		}
		return site
	}
	providertest.Run(t, providertest.Harness{
		Open: open,
		Source: func(t *testing.T, _ hypervisor.Provider) providertest.Machine {
			m := newIdleMachine(t, func() *kvm.Site { return site }, dir, "web01")
			t.Cleanup(func() {
				if _, err := site.Stop(t.Context(), m.ref, 0); err != nil {
					t.Log(err)
				}
			})
			return m
		},
		// What the first site holds is simply forgotten, as in a crash; its open
		// connections end with nobody to answer.
		Reopen:  func(t *testing.T, _ hypervisor.Provider) hypervisor.Provider { return open(t) },
		Network: "user",
		Deaf:    true,
	})
}
