package kvmtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/nbd"
)

// Place is what an idle machine needs to know of where it runs.
type Place struct {
	// Execute gives a QMP command to the QEMU of a machine.
	Execute func(t *testing.T, ref hypervisor.Ref, command string, arguments map[string]any, result any)
	// Device is the QOM path of a disk's device.
	Device func(key string) string
	// Backing gives the NBD URIs that a replica's disks were based on.
	Backing func(t *testing.T, ref hypervisor.Ref) map[string]string
}

// Idle is a machine without a guest to speak of, and all states that its disks had.
type Idle struct {
	Place
	ref hypervisor.Ref

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	disks  map[hypervisor.Ref]map[string][]byte // what each machine's disks hold
	states map[[32]byte]bool                    // that existed at some instant
}

// NewIdle begins with the content of the disks, by key. The first sector of vda should
// be a BootSector.
func NewIdle(place Place, ref hypervisor.Ref, disks map[string][]byte) *Idle {
	m := &Idle{Place: place, ref: ref, rng: rand.New(rand.NewPCG(1, 2)),
		disks: map[hypervisor.Ref]map[string][]byte{ref: disks}, states: map[[32]byte]bool{}}
	m.remember(ref)
	return m
}

// Disks is content for the disks of a small machine; the second one ends in the middle
// of a cluster.
func Disks() map[string][]byte {
	disks := map[string][]byte{"vda": make([]byte, 1<<20), "vdb": make([]byte, 2<<20+3*512)}
	copy(disks["vda"], BootSector())
	return disks
}

// Image writes content as an image of a format.
func Image(t *testing.T, path, format string, content []byte) {
	t.Helper()
	plain := path
	if format != "raw" {
		plain += ".raw"
	}
	if err := os.WriteFile(plain, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if format == "raw" {
		return
	}
	if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", format, plain, path).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img convert: %v: %s", err, out)
	}
	if err := os.Remove(plain); err != nil {
		t.Fatal(err)
	}
}

func stateOf(disks map[string][]byte) [32]byte {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(disks)) {
		fmt.Fprintf(h, "%s %d\n", key, len(disks[key]))
		h.Write(disks[key])
	}
	return [32]byte(h.Sum(nil))
}

func (m *Idle) remember(ref hypervisor.Ref) { m.states[stateOf(m.disks[ref])] = true }

// Ref of the source.
func (m *Idle) Ref() hypervisor.Ref { return m.ref }

// Write changes some places of each disk, one after the other.
func (m *Idle) Write(t *testing.T, ref hypervisor.Ref) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	disks := m.disks[ref]
	if disks == nil {
		disks = m.based(t, ref)
		m.disks[ref] = disks
	}
	for range 3 {
		for _, key := range slices.Sorted(maps.Keys(disks)) {
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
			var reply string
			m.Execute(t, ref, "human-monitor-command", map[string]any{"command-line": fmt.Sprintf("qemu-io -d %s %q", m.Device(key), command)}, &reply)
			if reply != "" {
				t.Fatalf("disk %s: %s: %s", key, command, reply)
			}
		}
	}
}

// based reads the recovery point that a replica began with.
func (m *Idle) based(t *testing.T, ref hypervisor.Ref) map[string][]byte {
	t.Helper()
	disks := map[string][]byte{}
	for key, uri := range m.Backing(t, ref) {
		client, err := nbd.Dial(t.Context(), uri, nbd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		disks[key] = make([]byte, client.Size())
		if _, err := client.ReadAt(disks[key], 0); err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
	return disks
}

// Judge looks whether the disks ever were so.
func (m *Idle) Judge(_ context.Context, disks map[string]replication.Source) error {
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
	why := "the disks never were so at one instant"
	for key, now := range m.disks[m.ref] {
		if !bytes.Equal(now, content[key]) {
			at := 0
			for at < min(len(now), len(content[key])) && now[at] == content[key][at] {
				at++
			}
			why += fmt.Sprintf("; %s differs from now first at %d", key, at)
		}
	}
	return fmt.Errorf("%s", why)
}

// Grow says that a disk is about to become larger and returns its new size.
func (m *Idle) Grow(key string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disks[m.ref][key] = append(m.disks[m.ref][key], make([]byte, 300<<10)...)
	m.remember(m.ref)
	return int64(len(m.disks[m.ref][key]))
}

// Add says that the machine is about to have a further disk and returns its content.
func (m *Idle) Add(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disks[m.ref][key] = bytes.Repeat([]byte("added "), 256<<10/6+1)[:256<<10]
	m.remember(m.ref)
	return bytes.Clone(m.disks[m.ref][key])
}

// LoseTracking removes all bitmaps, as a crash of QEMU does for raw disks.
func (m *Idle) LoseTracking(t *testing.T) {
	t.Helper()
	var nodes []struct {
		Name    string `json:"node-name"`
		Bitmaps []struct {
			Name string `json:"name"`
		} `json:"dirty-bitmaps"`
	}
	m.Execute(t, m.ref, "query-named-block-nodes", map[string]any{"flat": true}, &nodes)
	for _, n := range nodes {
		for _, b := range n.Bitmaps {
			m.Execute(t, m.ref, "block-dirty-bitmap-remove", map[string]any{"node": n.Name, "name": b.Name}, nil)
		}
	}
}

// FailFreeze has nothing to do: nobody answers on the agent's channel.
func (m *Idle) FailFreeze(*testing.T, bool) {}
