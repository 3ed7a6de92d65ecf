package guest_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"riparo/hypervisor/kvm/guest"
	"riparo/hypervisor/kvm/qmp"
)

// need skips the test when a program is missing; in CI that is a failure.
func need(t *testing.T) guest.Kit {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a real guest: left out of the short run")
	}
	missing := guest.Missing()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 && os.Getenv("CI") == "true" {
		t.Fatalf("missing on this machine: %v", missing)
	}
	if len(missing) > 0 {
		t.Skipf("missing on this machine: %v", missing)
	}
	release, err := guest.Turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	kit, err := guest.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return kit
}

// TestGuestCountsShutsDownInOrderAndIsFoundWhole boots the guest on two empty disks,
// presses the power button, and has a second boot judge what was left.
func TestGuestCountsShutsDownInOrderAndIsFoundWhole(t *testing.T) {
	kit := need(t)
	folder := t.TempDir()
	var disks []string
	for _, name := range []string{"vda", "vdb"} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 64<<20); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, "-drive", fmt.Sprintf("file=%s,format=raw,if=none,id=%s", path, name),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,serial=S-%s", name, name))
	}
	boots := 0
	boot := func(mode string) (read func() []byte, wait func(), power func()) {
		boots++ // each with a serial line of its own: an older one says DONE already
		serial, socket := filepath.Join(folder, fmt.Sprintf("%d.log", boots)), filepath.Join(folder, fmt.Sprintf("%d.qmp", boots))
		command := exec.Command("qemu-system-x86_64", append([]string{"-machine", "q35,accel=tcg", "-cpu", "max", "-m", "256", "-display", "none",
			"-nodefaults", "-no-reboot", "-serial", "file:" + serial, "-qmp", "unix:" + socket + ",server=on,wait=off",
			"-kernel", kit.Kernel, "-initrd", kit.Initrd, "-append", guest.Append(mode)}, disks...)...)
		command.Stderr = os.Stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { command.Process.Kill() })
		read = func() []byte { console, _ := os.ReadFile(serial); return console }
		power = func() {
			q, err := qmp.Dial(t.Context(), socket)
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			if err := q.Execute(t.Context(), "system_powerdown", nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		return read, func() { command.Wait() }, power
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	read, wait, power := boot(guest.Count)
	if _, err := guest.WaitLine(ctx, read, " C 3"); err != nil {
		t.Fatal(err)
	}
	power()
	console, err := guest.WaitLine(ctx, read, "BYE")
	if err != nil {
		t.Fatal(err)
	}
	wait()
	last, ok := guest.Counter(console)
	if bye, _ := guest.Said(console, "BYE"); !ok || bye != fmt.Sprint(last) {
		t.Fatalf("the guest said goodbye at %q, its last count was %d", bye, last)
	}

	read, wait, _ = boot(guest.Verify)
	if console, err = guest.WaitLine(ctx, read, "DONE"); err != nil {
		t.Fatal(err)
	}
	wait()
	f := guest.ReadFindings(console)
	for _, disk := range []string{"vda", "vdb"} {
		if f.Counters[disk] != last || f.Recovered[disk] || f.RawFsck[disk] != 0 || f.Fsck[disk] != 0 || f.Serials[disk] != "S-"+disk || f.Sizes[disk] != 64<<20 {
			t.Errorf("disk %s after an orderly shutdown at count %d: %+v", disk, last, f)
		}
	}
	if f.Files < 3 || f.Bad != 0 || f.LogLines != last || f.LogLast != last {
		t.Errorf("files after count %d: %+v", last, f)
	}
	if t.Failed() {
		t.Logf("%s", console)
	}

	// The check can fail: every checksum is altered on the disk, and in its journal.
	path := filepath.Join(folder, "vda")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	altered := 0
	content = regexp.MustCompile(`[0-9a-f]{32}  -\n`).ReplaceAllFunc(content, func(sum []byte) []byte {
		altered++
		other := bytes.Clone(sum)
		if other[0] = '0'; sum[0] == '0' {
			other[0] = '1'
		}
		return other
	})
	if altered == 0 {
		t.Fatal("no checksum was found on the disk")
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	read, wait, _ = boot(guest.Verify)
	if console, err = guest.WaitLine(ctx, read, "DONE"); err != nil {
		t.Fatal(err)
	}
	wait()
	if f := guest.ReadFindings(console); f.Files < 3 || f.Bad != f.Files {
		t.Errorf("%d checksums were altered: %d bad files of %d, want all of at least 3: %s", altered, f.Bad, f.Files, console)
	}
}
