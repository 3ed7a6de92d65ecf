package image

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"riparo/replication"
)

// wantProblem checks the code of a problem and that it tells what to do.
func wantProblem(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want the problem %s", code)
		return
	}
	p := replication.AsProblem(err)
	if p.Code != code {
		t.Errorf("got the problem %s (%v), want %s", p.Code, err, code)
	}
	if p.Cause == "" || p.Effect == "" || p.Action == "" {
		t.Errorf("the problem %s does not say cause, effect and action: %#v", p.Code, p)
	}
}

// sparseFile makes a file with data at some places.
func sparseFile(t *testing.T, size int64, data ...replication.Extent) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for i, e := range data {
		b := bytes.Repeat([]byte{byte(i + 1)}, int(e.Length))
		if _, err := f.WriteAt(b, e.Offset); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func open(t *testing.T, path string, options ...OpenOption) *File {
	t.Helper()
	f, err := OpenFile(path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFileIsReadToItsEndAndNotBeyond(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 512, 513, 1<<20 + 1} {
		want := bytes.Repeat([]byte{7}, int(size))
		path := filepath.Join(t.TempDir(), "disk.raw")
		os.WriteFile(path, want, 0o600)
		f := open(t, path)
		if f.Size() != size {
			t.Errorf("size: got %d, want %d", f.Size(), size)
		}
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("size %d: got %d bytes, %v", size, len(got), err)
		}
		if n, err := f.ReadAt(make([]byte, 10), size); n != 0 || err != io.EOF {
			t.Errorf("size %d: a read at the end: got %d, %v, want EOF", size, n, err)
		}
		if err := f.Check(); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestHolesAreRegionsOfZero(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("holes are found on Linux")
	}
	const size = 64 << 30
	path := sparseFile(t, size, replication.Extent{Offset: 1 << 20, Length: 1 << 20}, replication.Extent{Offset: size - 4096, Length: 4096})
	var data int64
	at := int64(0)
	for r, err := range open(t, path).Regions(t.Context()) {
		if err != nil || r.Offset != at || r.Length <= 0 {
			t.Fatalf("region %v at %d: %v", r, at, err)
		}
		at = r.End()
		if !r.Zero {
			data += r.Length
		}
	}
	if at != size {
		t.Errorf("the regions end at %d, want %d", at, int64(size))
	}
	if data > 2<<20 {
		t.Errorf("%d bytes are called data, want about %d", data, 1<<20+4096)
	}
}

func TestWhatCannotBeASourceIsRefusedWithAReason(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenFile(filepath.Join(dir, "none"))
	wantProblem(t, err, "image.missing")
	_, err = OpenFile(dir)
	wantProblem(t, err, "image.directory")
	if runtime.GOOS == "windows" {
		return
	}
	pipe := filepath.Join(dir, "pipe")
	if err := exec.Command("mkfifo", pipe).Run(); err != nil {
		t.Fatal(err)
	}
	_, err = OpenFile(pipe)
	wantProblem(t, err, "image.special")
	_, err = OpenFile("/dev/null")
	wantProblem(t, err, "image.special")
	_, err = OpenFile(filepath.Join(pipe, "below"))
	wantProblem(t, err, "image.unreadable")
	if os.Getuid() == 0 {
		t.Log("permissions cannot be tried: root may read everything")
		return
	}
	locked := filepath.Join(dir, "locked")
	os.WriteFile(locked, nil, 0)
	_, err = OpenFile(locked)
	wantProblem(t, err, "image.unreadable")
}

func TestASourceThatChangesIsNoticed(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"shrinks":    func(path string) error { return os.Truncate(path, 1000) },
		"grows":      func(path string) error { return os.Truncate(path, 1<<30) },
		"disappears": os.Remove,
		"is replaced": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, make([]byte, 1<<20), 0o600))
		},
		"is written": func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Minute)) },
	} {
		if runtime.GOOS == "windows" && strings.Contains("disappears is replaced", what) {
			continue // Windows does not let go of an open file.
		}
		path := sparseFile(t, 1<<20, replication.Extent{Offset: 0, Length: 1 << 20})
		f := open(t, path)
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		err := f.Check()
		wantProblem(t, err, "image.changed")
		t.Logf("%s: %v", what, err)
		if what == "shrinks" {
			n, err := f.ReadAt(make([]byte, 5000), 0)
			wantProblem(t, err, "image.changed")
			if n != 1000 {
				t.Errorf("a read past the new end: got %d bytes, want 1000", n)
			}
		}
	}
}

// TestAMountedDeviceIsBusy needs root and a loop device.
func TestAMountedDeviceIsBusy(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	need(t, "losetup", "mkfs.ext4", "mount", "umount")
	path := sparseFile(t, 16<<20)
	if out, err := exec.Command("mkfs.ext4", "-q", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device can be had: %s", out)
	}
	device := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "-d", device).Run()

	f := open(t, device)
	if f.Size() != 16<<20 {
		t.Errorf("size of the device: got %d, want %d", f.Size(), 16<<20)
	}
	if err := f.Check(); err != nil {
		t.Error(err)
	}
	f.Close()

	folder := t.TempDir()
	if out, err := exec.Command("mount", device, folder).CombinedOutput(); err != nil {
		t.Skipf("mounting is not permitted: %s", out)
	}
	defer exec.Command("umount", folder).Run()
	_, err = OpenFile(device)
	wantProblem(t, err, "image.busy")
	open(t, device, AllowBusy).Close()
}

func TestAnImageInUseByQEMUIsBusy(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("QEMU's locks are known on Linux")
	}
	need(t, "qemu-io")
	path := sparseFile(t, 1<<20)
	qemu := exec.Command("qemu-io", "-f", "raw", path)
	in, err := qemu.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	defer qemu.Wait()
	defer in.Close()
	if _, err := out.Read(make([]byte, 100)); err != nil { // its prompt: it has opened the image
		t.Fatal(err)
	}
	_, err = OpenFile(path)
	wantProblem(t, err, "image.busy")
	open(t, path, AllowBusy)
}
