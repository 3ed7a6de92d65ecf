//go:build unix

package appliance_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// largeBytes is the size of each disk of the large guest.
const largeBytes = 8 << 30

// TestALargeGuestStartsAtOnceFromAnyPoint: two disks of 8 GiB, of which the oldest
// and the newest point are tested. Nothing is copied beforehand.
func TestALargeGuestStartsAtOnceFromAnyPoint(t *testing.T) {
	kit := needGuests(t)
	th := &theater{T: t, kit: kit, primary: "milano", secondary: "torino", address: map[string]string{}}
	th.listen()
	dir := t.TempDir()
	for _, site := range []string{th.primary, th.secondary} {
		th.address[site] = filepath.Join(dir, site)
		if err := os.Mkdir(th.address[site], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	th.defineLarge()
	th.start(filepath.Join(dir, "data"))
	for _, site := range []string{th.primary, th.secondary} {
		if err := th.a.AddSite(t.Context(), "test", store.Site{Name: site, Kind: kvm.Kind, Address: th.address[site]}); err != nil {
			t.Fatal(err)
		}
	}
	th.Cleanup(th.endGuests)
	th.protect()
	points := th.points(4)
	for _, p := range []replication.RecoveryPoint{points[0], points[len(points)-1]} {
		job := th.ask(api.Request{Verb: lifecycle.TestFailover, Point: p.ID})
		took, err := time.ParseDuration(evidence(job, "started after"))
		t.Logf("point of %s ago: started after %s, up after %s", time.Since(p.Time).Round(time.Second), evidence(job, "started after"), evidence(job, "up after"))
		// 1 s is the promise; the rest is for a machine that does other things beside.
		if err != nil || took > 3*time.Second {
			t.Errorf("the guest of two disks of 8 GiB began to boot after %q, want it at once", evidence(job, "started after"))
		}
		ref := hypervisor.Ref(th.machine().Test.Ref)
		if said := th.console(th.secondary, ref); !bytes.Contains(said, []byte("SERVING")) {
			t.Errorf("the guest did not serve; it said %s", said)
		}
		seen, err := th.provider(th.secondary).Machine(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range seen.Disks {
			if took := allocated(t, d.Path); took > largeBytes/100 {
				t.Errorf("the overlay of disk %s takes %d bytes after the boot, want only what the guest wrote", d.Key, took)
			}
		}
		th.ask(api.Request{Verb: lifecycle.CleanupTest})
	}
}

// allocated is what a file takes on its file system, in bytes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var info syscall.Stat_t
	if err := syscall.Stat(path, &info); err != nil {
		t.Fatal(err)
	}
	return info.Blocks * 512
}

// defineLarge makes the source, with file systems made beforehand.
func (th *theater) defineLarge() {
	th.Helper()
	site, err := kvm.Open(th.Context(), th.address[th.primary], kvm.Options{Accelerator: "tcg"})
	if err != nil {
		th.Fatal(err)
	}
	defer site.Close()
	d := kvm.Definition{Name: "web01", MemoryMiB: 192, CPUs: 1, GuestAgent: true, Network: "user",
		Kernel: th.kit.Kernel, Initrd: th.kit.Initrd, Append: guest.Append(guest.Count, fmt.Sprintf("port=%d", th.port))}
	mkfs, err := exec.LookPath("mke2fs")
	if err != nil {
		mkfs = "/sbin/mke2fs"
	}
	for _, key := range []string{"vda", "vdb"} {
		path := filepath.Join(th.address[th.primary], "web01-"+key+".raw")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			th.Fatal(err)
		}
		if err := os.Truncate(path, largeBytes); err != nil {
			th.Fatal(err)
		}
		if out, err := exec.Command(mkfs, "-q", "-F", "-t", "ext4", path).CombinedOutput(); err != nil {
			th.Fatalf("mke2fs: %v: %s", err, out)
		}
		d.Disks = append(d.Disks, kvm.DiskDefinition{Key: key, Path: path, Format: "raw", Boot: key == "vda"})
	}
	if err := site.Define(d); err != nil {
		th.Fatal(err)
	}
	th.ref = "web01"
}
