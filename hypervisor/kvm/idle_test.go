package kvm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/qmp"
	"riparo/replication"
	"riparo/replication/nbd"
)

// idleMachine is a real QEMU whose guest is a boot sector: it says hello on the serial
// line and sleeps. In its place the test writes, through the disks' devices, on the
// path that a guest's writes take. It starts in a tenth of a second, and every state
// that its disks ever had is known.
type idleMachine struct {
	site func() *kvm.Site
	dir  string
	ref  hypervisor.Ref

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	disks  map[hypervisor.Ref]map[string][]byte // what each machine's disks hold
	states map[[32]byte]bool                    // that existed at some instant
}

// bootSector prints its text to the first serial port and halts.
func bootSector(text string) []byte {
	code := []byte{
		0xfa,       // cli
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0x18, 0x7c, // mov si, 0x7c18 (the text, below)
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz end
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp next
		0xf4,       // end: hlt
		0xeb, 0xfd, // jmp end
		0x90, 0x90,
	}
	sector := make([]byte, 512)
	copy(sector, code)
	copy(sector[0x18:], text)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

const idleHello = "a boot sector says hello\r\n"

// newIdleMachine defines the machine: one raw disk and one qcow2 disk.
func newIdleMachine(t *testing.T, site func() *kvm.Site, dir, name string) *idleMachine {
	t.Helper()
	m := &idleMachine{site: site, dir: dir, ref: hypervisor.Ref(name), rng: rand.New(rand.NewPCG(1, 2)),
		disks: map[hypervisor.Ref]map[string][]byte{}, states: map[[32]byte]bool{}}
	content := map[string][]byte{"vda": make([]byte, 1<<20), "vdb": make([]byte, 2<<20+3*512)}
	copy(content["vda"], bootSector(idleHello))
	m.disks[m.ref] = content
	// The guest agent's channel is there and nobody listens inside.
	d := kvm.Definition{Name: name, MemoryMiB: 32, CPUs: 1, GuestAgent: true, Network: "user"}
	for _, key := range []string{"vda", "vdb"} {
		raw := filepath.Join(dir, name+"-"+key+".raw")
		if err := os.WriteFile(raw, content[key], 0o600); err != nil {
			t.Fatal(err)
		}
		disk := kvm.DiskDefinition{Key: key, Path: raw, Format: "raw"}
		if key == "vdb" {
			disk.Format, disk.Path = "qcow2", filepath.Join(dir, name+"-"+key+".qcow2")
			if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk.Path).CombinedOutput(); err != nil {
				t.Fatalf("qemu-img convert: %v: %s", err, out)
			}
		}
		d.Disks = append(d.Disks, disk)
	}
	if err := site().Define(d); err != nil {
		t.Fatal(err)
	}
	m.remember(m.ref)
	return m
}

func stateOf(disks map[string][]byte) [32]byte {
	h := sha256.New()
	for _, key := range slices.Sorted(mapKeys(disks)) {
		fmt.Fprintf(h, "%s %d\n", key, len(disks[key]))
		h.Write(disks[key])
	}
	return [32]byte(h.Sum(nil))
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

func (m *idleMachine) remember(ref hypervisor.Ref) { m.states[stateOf(m.disks[ref])] = true }

// Ref of the source.
func (m *idleMachine) Ref() hypervisor.Ref { return m.ref }

// monitor connects to the events socket of a machine: nobody watches in these tests,
// and the sockets that the site uses stay free.
func (m *idleMachine) monitor(t *testing.T, ref hypervisor.Ref) *qmp.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := qmp.Dial(ctx, filepath.Join(m.dir, "run", string(ref), "events.qmp"))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Write changes some places of each disk, one after the other.
func (m *idleMachine) Write(t *testing.T, ref hypervisor.Ref) {
	t.Helper()
	conn := m.monitor(t, ref)
	defer conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	disks := m.disks[ref]
	if disks == nil {
		disks = m.backing(t, ref)
		m.disks[ref] = disks
	}
	for range 3 {
		for _, key := range slices.Sorted(mapKeys(disks)) {
			sectors := len(disks[key])/512 - 1
			length := 512 * (1 + m.rng.IntN(min(sectors, 300)))
			offset := 512 * (1 + m.rng.IntN(sectors-length/512+1))
			place := disks[key][offset : offset+length]
			command := fmt.Sprintf("write -z -u %d %d", offset, length)
			if m.rng.IntN(4) > 0 {
				pattern := byte(1 + m.rng.IntN(255))
				command = fmt.Sprintf("write -P %d %d %d", pattern, offset, length)
				copy(place, bytes.Repeat([]byte{pattern}, length))
			} else {
				clear(place)
			}
			// The state is remembered before it exists: a capture may be faster.
			m.remember(ref)
			m.command(t, conn, fmt.Sprintf("qemu-io -d /machine/peripheral/dev-%s/virtio-backend %q", key, command))
		}
	}
}

func (m *idleMachine) command(t *testing.T, conn *qmp.Conn, line string) {
	t.Helper()
	var reply string
	if err := conn.Execute(t.Context(), "human-monitor-command", map[string]any{"command-line": line}, &reply); err != nil || reply != "" {
		t.Fatalf("%s: %v %s", line, err, reply)
	}
}

// backing reads the recovery point that a replica began with.
func (m *idleMachine) backing(t *testing.T, ref hypervisor.Ref) map[string][]byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(m.dir, string(ref)+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var d kvm.Definition
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	disks := map[string][]byte{}
	for _, disk := range d.Disks {
		client, err := nbd.Dial(t.Context(), disk.Backing, nbd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		disks[disk.Key] = make([]byte, client.Size())
		if _, err := client.ReadAt(disks[disk.Key], 0); err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
	return disks
}

// Judge looks whether the disks ever were so.
func (m *idleMachine) Judge(_ context.Context, disks map[string]replication.Source) error {
	content := map[string][]byte{}
	for key, disk := range disks {
		content[key] = make([]byte, disk.Size())
		if _, err := disk.ReadAt(content[key], 0); err != nil && err != io.EOF {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.states[stateOf(content)] {
		return nil
	}
	for key, now := range m.disks[m.ref] {
		if !bytes.Equal(now, content[key]) {
			return fmt.Errorf("the disks never were so at one instant; %s differs from now first at %d", key, firstDifference(now, content[key]))
		}
	}
	return fmt.Errorf("the disks never were so at one instant")
}

// GrowDisk makes a disk larger while the machine runs.
func (m *idleMachine) GrowDisk(t *testing.T, key string) {
	t.Helper()
	conn := m.monitor(t, m.ref)
	defer conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disks[m.ref][key] = append(m.disks[m.ref][key], make([]byte, 300<<10)...)
	m.remember(m.ref)
	if err := conn.Execute(t.Context(), "block_resize", map[string]any{"node-name": "disk-" + key, "size": len(m.disks[m.ref][key])}, nil); err != nil {
		t.Fatal(err)
	}
}

// AddDisk stops the machine, adds a disk, and starts it again.
func (m *idleMachine) AddDisk(t *testing.T) string {
	t.Helper()
	site, ctx := m.site(), t.Context()
	if _, err := site.Stop(ctx, m.ref, 0); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(m.dir, string(m.ref)+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var d kvm.Definition
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.dir, "added.raw")
	m.mu.Lock()
	m.disks[m.ref]["vdc"] = bytes.Repeat([]byte("added "), 256<<10/6+1)[:256<<10]
	m.remember(m.ref)
	err = os.WriteFile(path, m.disks[m.ref]["vdc"], 0o600)
	m.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	d.Disks = append(d.Disks, kvm.DiskDefinition{Key: "vdc", Path: path, Format: "raw"})
	if err := site.Define(d); err != nil {
		t.Fatal(err)
	}
	if err := site.Start(ctx, m.ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return "vdc"
}

// LoseTracking removes all bitmaps, as a crash of QEMU does for raw disks.
func (m *idleMachine) LoseTracking(t *testing.T) {
	t.Helper()
	conn := m.monitor(t, m.ref)
	defer conn.Close()
	var nodes []struct {
		Name    string `json:"node-name"`
		Bitmaps []struct {
			Name string `json:"name"`
		} `json:"dirty-bitmaps"`
	}
	if err := conn.Execute(t.Context(), "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		for _, b := range n.Bitmaps {
			if err := conn.Execute(t.Context(), "block-dirty-bitmap-remove", map[string]any{"node": n.Name, "name": b.Name}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// FailFreeze has nothing to do: nobody answers on the agent's channel.
func (m *idleMachine) FailFreeze(*testing.T, bool) {}
