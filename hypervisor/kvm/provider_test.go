package kvm_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/kvmtest"
	"riparo/hypervisor/kvm/qmp"
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
	h := &idleSite{dir: t.TempDir()}
	providertest.Run(t, providertest.Harness{
		Open:   h.open,
		Source: func(t *testing.T, _ hypervisor.Provider) providertest.Machine { return h.source(t, "web01") },
		// What the first site holds is simply forgotten, as in a crash.
		Reopen:  func(t *testing.T, _ hypervisor.Provider) hypervisor.Provider { return h.open(t) },
		Network: "user",
		Deaf:    true,
	})
}

// idleSite is a site for machines without a guest.
type idleSite struct {
	dir  string
	site *kvm.Site
}

func (h *idleSite) open(t *testing.T) hypervisor.Provider {
	t.Helper()
	var err error
	if h.site, err = kvm.Open(t.Context(), h.dir, kvm.Options{Accelerator: "tcg"}); err != nil {
		t.Fatal(err)
	}
	return h.site
}

// source defines a machine with a raw disk and a qcow2 disk.
func (h *idleSite) source(t *testing.T, name string) *idleMachine {
	t.Helper()
	content := kvmtest.Disks()
	// The guest agent's channel is there and nobody listens inside.
	d := kvm.Definition{Name: name, MemoryMiB: 32, CPUs: 1, GuestAgent: true, Network: "user"}
	for key, format := range map[string]string{"vda": "raw", "vdb": "qcow2"} {
		path := filepath.Join(h.dir, name+"-"+key)
		kvmtest.Image(t, path, format, content[key])
		d.Disks = append(d.Disks, kvm.DiskDefinition{Key: key, Path: path, Format: format, Boot: key == "vda"})
	}
	if err := h.site.Define(d); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := h.site.Stop(ctx, hypervisor.Ref(name), 0); err != nil {
			t.Error(err)
		}
	})
	place := kvmtest.Place{
		Device: func(key string) string { return "/machine/peripheral/dev-" + key + "/virtio-backend" },
		// Nobody watches in these tests: the events socket is free.
		Execute: func(t *testing.T, ref hypervisor.Ref, command string, arguments map[string]any, result any) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, err := qmp.Dial(ctx, filepath.Join(h.dir, "run", string(ref), "events.qmp"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.Execute(ctx, command, arguments, result); err != nil {
				t.Fatal(err)
			}
		},
		Backing: func(t *testing.T, ref hypervisor.Ref) map[string]string {
			uris := map[string]string{}
			for _, disk := range h.definition(t, ref).Disks {
				uris[disk.Key] = disk.Backing
			}
			return uris
		},
	}
	return &idleMachine{kvmtest.NewIdle(place, hypervisor.Ref(name), content), h}
}

func (h *idleSite) definition(t *testing.T, ref hypervisor.Ref) kvm.Definition {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(h.dir, string(ref)+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var d kvm.Definition
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

type idleMachine struct {
	*kvmtest.Idle
	h *idleSite
}

// GrowDisk makes a disk larger while the machine runs.
func (m *idleMachine) GrowDisk(t *testing.T, key string) {
	t.Helper()
	m.Execute(t, m.Ref(), "block_resize", map[string]any{"node-name": "disk-" + key, "size": m.Grow(key)}, nil)
}

// AddDisk stops the machine, adds a disk, and starts it again.
func (m *idleMachine) AddDisk(t *testing.T) string {
	t.Helper()
	if _, err := m.h.site.Stop(t.Context(), m.Ref(), 0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.h.dir, "added.raw")
	kvmtest.Image(t, path, "raw", m.Add("vdc"))
	d := m.h.definition(t, m.Ref())
	d.Disks = append(d.Disks, kvm.DiskDefinition{Key: "vdc", Path: path, Format: "raw"})
	if err := m.h.site.Define(d); err != nil {
		t.Fatal(err)
	}
	if err := m.h.site.Start(t.Context(), m.Ref(), hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return "vdc"
}
