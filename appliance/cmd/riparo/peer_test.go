//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"riparo/replication"
)

// peer gives the path of a program of others, or skips.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// served starts `disk serve` and gives the address it says it is ready at. end stops
// it and fails the test if it did not end well.
func served(t *testing.T, args ...string) (uri string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var errs strings.Builder
	done := make(chan int, 1)
	go func() {
		status := run(ctx, append([]string{"disk", "serve"}, args...), in, &errs)
		in.Close()
		done <- status
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	uri, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		cancel()
		t.Fatalf("serve %q: said %q, %v\n%s", args, line, err, errs.String())
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if status := <-done; status != statusDone {
			t.Errorf("serve %q: status %d\n%s", args, status, errs.String())
		}
	}
	t.Cleanup(end)
	return uri, end
}

// TestPeersReadWhatWeExportAndWhatTheSourceHolds: for disks of every kind of size,
// what nbdcopy and qemu-img read from `disk serve` equals `disk export` equals the
// source.
func TestPeersReadWhatWeExportAndWhatTheSourceHolds(t *testing.T) {
	nbdcopy, qemu, nbdinfo := peer(t, "nbdcopy"), peer(t, "qemu-img"), peer(t, "nbdinfo")
	rnd := rand.New(rand.NewPCG(11, 11))
	for _, size := range []int64{0, 1, 512 + 1, 1_234_567, 20 << 20, 64 << 30} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			data := map[int64][]byte{}
			for range 12 {
				if n := rnd.Int64N(min(size, 300_000) + 1); n > 0 {
					data[rnd.Int64N(size-n+1)] = noise(rnd, int(n))
				}
			}
			source := sparse(t, filepath.Join(dir, "a.raw"), size, data)
			vault := filepath.Join(dir, "vault")
			r := must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d")
			if r.LogicalBytes != size {
				t.Errorf("%d logical bytes, want %d", r.LogicalBytes, size)
			}
			sameDisk(t, "our export", exported(t, vault, r.Point), source)

			socket := filepath.Join(dir, "s")
			uri, _ := served(t, "--vault", vault, "--disk", "d", "--socket", socket)
			if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the socket: %v, %v; want mode 0600", info.Mode(), err)
			}
			if got := command(t, nbdinfo, "--size", uri); got != fmt.Sprint(size) {
				t.Errorf("nbdinfo says %s bytes, want %d", got, size)
			}
			copied := sparse(t, filepath.Join(dir, "copied.raw"), size, nil)
			command(t, nbdcopy, "--destination-is-zero", uri, copied)
			sameDisk(t, "nbdcopy", copied, source)

			converted := filepath.Join(dir, "converted.raw")
			command(t, qemu, "convert", "-f", "raw", "-O", "raw", uri, converted)
			sameDisk(t, "qemu-img convert", converted, source)
			if size%512 == 0 { // it rounds a file's size up, an export's too, but not alike
				command(t, qemu, "compare", "-f", "raw", "-F", "raw", uri, source)
			}
		})
	}
}

func TestAnyPointIsServedOverTCPToo(t *testing.T) {
	nbdcopy := peer(t, "nbdcopy")
	dir := t.TempDir()
	vault := filepath.Join(dir, "vault")
	rnd := rand.New(rand.NewPCG(12, 12))
	type kept struct {
		point replication.PointID
		path  string
	}
	var points []kept
	for i := range 3 {
		source := write(t, filepath.Join(dir, fmt.Sprint(i)), noise(rnd, 700_001))
		points = append(points, kept{must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d").Point, source})
	}
	for _, p := range points {
		uri, end := served(t, "--vault", vault, "--disk", "d", "--point", string(p.point), "--listen", "127.0.0.1:0")
		copied := sparse(t, filepath.Join(t.TempDir(), "copied.raw"), 700_001, nil)
		command(t, nbdcopy, uri, copied)
		sameDisk(t, string(p.point), copied, p.path)
		end()
	}
}

// TestACopyOnWriteDiskIsWrittenAndThePointIsNot writes through QEMU's own NBD client,
// twice, and looks at both.
func TestACopyOnWriteDiskIsWrittenAndThePointIsNot(t *testing.T) {
	qemuIO, nbdcopy := peer(t, "qemu-io"), peer(t, "nbdcopy")
	dir := t.TempDir()
	vault, overlay := filepath.Join(dir, "vault"), filepath.Join(dir, "overlay")
	data := noise(rand.New(rand.NewPCG(13, 13)), 4<<20)
	source := write(t, filepath.Join(dir, "a.raw"), data)
	r := must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d")

	want := append([]byte(nil), data...)
	for i, at := range []int64{1 << 20, 3 << 20} { // the overlay goes on where it was left
		uri, end := served(t, "--vault", vault, "--disk", "d", "--socket", filepath.Join(dir, "s"), "--copy-on-write", overlay)
		command(t, qemuIO, "-f", "raw", "-c", fmt.Sprintf("write -P %d %d 64k", 0x41+i, at), "-c", "flush", uri)
		for k := range 64 << 10 {
			want[at+int64(k)] = byte(0x41 + i)
		}
		copied := sparse(t, filepath.Join(dir, "copied.raw"), 4<<20, nil)
		command(t, nbdcopy, uri, copied)
		sameDisk(t, "the writable disk", copied, write(t, filepath.Join(dir, "want"), want))
		end()
	}
	sameDisk(t, "the point", exported(t, vault, r.Point), source)
	if status, _, errs := call(t.Context(), "disk", "serve", "--vault", vault, "--disk", "d", "--socket", filepath.Join(dir, "s"), "--copy-on-write", source); status != statusFailed {
		t.Errorf("a disk image was taken for an overlay: status %d, %s", status, errs)
	}
}

func TestAServedPointCanNotBeWritten(t *testing.T) {
	qemuIO := peer(t, "qemu-io")
	s := t.TempDir()
	source := write(t, filepath.Join(s, "a.raw"), make([]byte, 1<<20))
	must[replicated](t, "disk", "replicate", source, "--vault", filepath.Join(s, "vault"), "--disk", "d")
	uri, _ := served(t, "--vault", filepath.Join(s, "vault"), "--disk", "d", "--socket", filepath.Join(s, "s"))
	if out, err := exec.Command(qemuIO, "-f", "raw", "-c", "write 0 4k", uri).CombinedOutput(); err == nil {
		t.Errorf("a write went through: %s", out)
	}
}

func TestASocketLeftBehindIsReplacedAndALiveOneIsNot(t *testing.T) {
	dir := t.TempDir()
	source := write(t, filepath.Join(dir, "a.raw"), make([]byte, 4096))
	vault, socket := filepath.Join(dir, "vault"), filepath.Join(dir, "s")
	must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d")
	args := []string{"--vault", vault, "--disk", "d", "--socket", socket}

	_, end := served(t, args...)
	if status, _, errs := call(t.Context(), append([]string{"disk", "serve"}, args...)...); status != statusFailed || !strings.Contains(errs, "in use") {
		t.Errorf("a second server: status %d, %s", status, errs)
	}
	end()
	leaveSocketBehind(t, socket)
	_, end = served(t, args...)
	end()
}

// TestFormatsOfOthersAreAcceptedByThem: what we export in other formats passes
// qemu-img check, and holds the source.
func TestFormatsOfOthersAreAcceptedByThem(t *testing.T) {
	qemu := peer(t, "qemu-img")
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(14, 14))
	source := sparse(t, filepath.Join(dir, "a.raw"), 40<<20+513, map[int64][]byte{0: noise(rnd, 1<<20), 39 << 20: noise(rnd, 1<<20+513)})
	vault := filepath.Join(dir, "vault")
	must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d")
	for format, driver := range map[string]string{"raw": "raw", "qcow2": "qcow2", "vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk"} {
		t.Run(format, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image."+format)
			must[map[string]any](t, "disk", "export", "--vault", vault, "--disk", "d", "--format", format, path)
			if out, err := exec.Command(qemu, "info", "-f", driver, path).CombinedOutput(); err != nil {
				t.Fatalf("qemu-img info: %v: %s", err, out)
			}
			if out, err := exec.Command(qemu, "check", "-f", driver, path).CombinedOutput(); err != nil && !strings.Contains(string(out), "does not support checks") {
				t.Errorf("qemu-img check: %v: %s", err, out)
			}
			back := filepath.Join(t.TempDir(), "back.raw")
			command(t, qemu, "convert", "-f", driver, "-O", "raw", path, back)
			sameDisk(t, format, back, source)
		})
	}
}

func TestWithoutQemuImgAFormatOfOthersIsRefusedClearly(t *testing.T) {
	dir := t.TempDir()
	source := write(t, filepath.Join(dir, "a.raw"), make([]byte, 4096))
	vault := filepath.Join(dir, "vault")
	must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d")
	t.Setenv("PATH", dir)
	status, _, errs := call(t.Context(), "disk", "export", "--vault", vault, "--disk", "d", "--format", "qcow2", filepath.Join(dir, "out"))
	if status != statusFailed || !strings.Contains(errs, "qemu-img") || !strings.Contains(errs, "remedy: ") {
		t.Errorf("status %d, %s", status, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was left: %v", err)
	}
}
