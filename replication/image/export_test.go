package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/nbd"
)

// written is a sparse file with data at its ends and in between.
func written(t *testing.T, size int64) string {
	t.Helper()
	path := sparseFile(t, size)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(uint64(size), 4))
	write := func(off, n int64) {
		b := make([]byte, min(n, size-off))
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], random.Uint64())
		rand.NewChaCha8(seed).Read(b)
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	if size > 0 {
		write(0, 3000)
		write(size-min(size, 700), 700)
		for range 20 {
			write(random.Int64N(size), random.Int64N(600<<10))
		}
	}
	return path
}

func run(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v: %s", program, strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

// sizes are those that formats stumble over.
var sizes = []int64{0, 1, 511, 512, 513, 1<<20 + 1, 200<<20 + 1536, 64 << 30}

// TestWhatIsExportedIsTheSource lets qemu-img compare every format with the source.
func TestWhatIsExportedIsTheSource(t *testing.T) {
	need(t, "qemu-img")
	qemuNames := map[Format]string{Raw: "raw", QCOW2: "qcow2", VHD: "vpc", VHDX: "vhdx", VMDK: "vmdk"}
	for _, size := range sizes {
		source := written(t, size)
		f := open(t, source)
		for _, format := range Formats {
			t.Run(fmt.Sprintf("%d/%s", size, format), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "out."+string(format))
				last := int64(-1)
				out, err := Export(t.Context(), f, path, format, ExportOptions{Progress: func(done, total int64) {
					if done < last || done > total || total != size {
						t.Errorf("progress: got %d of %d after %d, want at most %d", done, total, last, size)
					}
					last = done
				}})
				if err != nil {
					t.Fatal(err)
				}
				if last != size {
					t.Errorf("progress ended at %d, want %d", last, size)
				}
				wantSize := size
				if format != Raw {
					wantSize = max((size+511)/512*512, 512)
				}
				if out.Size != wantSize || out.PaddedBytes != wantSize-size {
					t.Errorf("got a size of %d with %d bytes of padding, want %d with %d", out.Size, out.PaddedBytes, wantSize, wantSize-size)
				}
				if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
					t.Errorf("left behind: %v", left)
				}
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case format == Raw && info.Size() != size, format == VHD && info.Size() != wantSize+512, info.Size() != out.FileBytes:
					t.Errorf("the file has %d bytes (told: %d) for a disk of %d", info.Size(), out.FileBytes, size)
				}
				var about struct {
					Size   int64  `json:"virtual-size"`
					Actual int64  `json:"actual-size"`
					Format string `json:"format"`
				}
				if err := json.Unmarshal([]byte(run(t, "qemu-img", "info", "--output=json", "-f", qemuNames[format], path)), &about); err != nil {
					t.Fatal(err)
				}
				if rounded := (wantSize + 511) / 512 * 512; about.Size != rounded || about.Format != qemuNames[format] {
					t.Errorf("qemu-img sees %q of %d bytes, want %q of %d", about.Format, about.Size, qemuNames[format], rounded)
				}
				if about.Actual > 40<<20 {
					t.Errorf("the image takes up %d bytes on disk: it should be sparse", about.Actual)
				}
				if format == VHDX && size >= 64<<30 && os.Getenv("RIPARO_LONG") == "" {
					sameData(t, f, path) // qemu-img would read all of the holes, for minutes.
					return
				}
				run(t, "qemu-img", "compare", "-f", "raw", "-F", qemuNames[format], source, path)
			})
		}
	}
}

// sameData reads a VHDX through qemu-nbd wherever the source has data.
func sameData(t *testing.T, source replication.Source, path string) {
	t.Helper()
	need(t, "qemu-nbd")
	socket := filepath.Join(t.TempDir(), "s")
	qemu := exec.Command("qemu-nbd", "-r", "-f", "vhdx", "-k", socket, path)
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	defer qemu.Wait()
	var c *nbd.Client
	for deadline := time.Now().Add(20 * time.Second); c == nil; {
		var err error
		if c, err = nbd.Dial(t.Context(), nbd.URI("unix", socket, ""), nbd.Options{}); err != nil {
			if time.Now().After(deadline) {
				qemu.Process.Kill()
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // until qemu-nbd listens
		}
	}
	defer c.Close() // qemu-nbd ends with its client.
	got, want := make([]byte, copyPiece), make([]byte, copyPiece)
	for r, err := range source.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for at := r.Offset; !r.Zero && at < r.End(); at += copyPiece {
			n := min(copyPiece, r.End()-at)
			if err := errors.Join(replication.ReadFull(c, got[:n], at), replication.ReadFull(source, want[:n], at)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[:n], want[:n]) {
				t.Fatalf("the %d bytes at %d differ", n, at)
			}
		}
	}
}

func TestARawExportIsTheSameFile(t *testing.T) {
	for _, size := range sizes[:len(sizes)-1] {
		source := written(t, size)
		path := filepath.Join(t.TempDir(), "out")
		if _, err := Export(t.Context(), open(t, source), path, Raw, ExportOptions{}); err != nil {
			t.Fatal(err)
		}
		got, _ := os.ReadFile(path)
		want, _ := os.ReadFile(source)
		if !bytes.Equal(got, want) {
			t.Errorf("size %d: the export differs from the source", size)
		}
	}
}

// TestTheFooterIsThatOfTheSpecification compares with one that qemu-img made.
func TestTheFooterIsThatOfTheSpecification(t *testing.T) {
	need(t, "qemu-img")
	for _, size := range []int64{512, 1 << 20, 200<<20 + 1536, 504 << 20, 1 << 30, 8<<30 + 512, 127 << 30, 1000 << 30} {
		path := filepath.Join(t.TempDir(), "theirs.vhd")
		run(t, "qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed,force_size=on", path, fmt.Sprint(size))
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		theirs := make([]byte, 512)
		_, err = f.ReadAt(theirs, size)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ours := vhdFooter(size, time.Now())
		if got, want := binary.BigEndian.Uint32(theirs[64:]), vhdChecksum(theirs); got != want {
			t.Errorf("size %d: our checksum of their footer is %#x, want %#x", size, want, got)
		}
		// What may differ: the time, the creator, the host, the geometry of the
		// largest disks (force_size writes the maximum), the checksum, the id.
		for i := range ours {
			if i >= 24 && i < 40 || i >= 56 && i < 60 || i >= 64 && i < 84 {
				ours[i], theirs[i] = 0, 0
			}
		}
		if !bytes.Equal(ours, theirs) {
			t.Errorf("size %d: got\n%x\nwant\n%x", size, ours, theirs)
		}
	}
}

func TestGeometryFollowsTheSpecification(t *testing.T) {
	// Worked by hand from the appendix "CHS Calculation".
	for _, c := range []struct {
		size           int64
		cylinders      uint16
		heads, sectors byte
	}{
		{0, 0, 4, 17},
		{512 * 17 * 4, 1, 4, 17},
		{100 << 20, 1003, 12, 17},
		{504 << 20, 1024, 16, 63},
		{1 << 30, 2080, 16, 63},
		{127 << 30, 65278, 16, 255},
		{2040 << 30, 65535, 16, 255},
	} {
		if cylinders, heads, sectors := vhdGeometry(c.size); cylinders != c.cylinders || heads != c.heads || sectors != c.sectors {
			t.Errorf("%d bytes: got %d/%d/%d, want %d/%d/%d", c.size, cylinders, heads, sectors, c.cylinders, c.heads, c.sectors)
		}
	}
}

func TestAnExportDoesNotOverwriteUnlessTold(t *testing.T) {
	source := open(t, written(t, 1<<20+1))
	path := filepath.Join(t.TempDir(), "out")
	os.WriteFile(path, []byte("precious"), 0o600)
	_, err := Export(t.Context(), source, path, Raw, ExportOptions{})
	wantProblem(t, err, "image.exists")
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file that was there is %q now", b)
	}
	if _, err := Export(t.Context(), source, path, Raw, ExportOptions{Overwrite: true}); err != nil {
		t.Error(err)
	}
	if info, _ := os.Stat(path); info.Size() != source.Size() {
		t.Errorf("after overwriting the file has %d bytes, want %d", info.Size(), source.Size())
	}
	_, err = Export(t.Context(), source, filepath.Dir(path), Raw, ExportOptions{Overwrite: true})
	wantProblem(t, err, "image.unwritable")
	_, err = Export(t.Context(), source, filepath.Join(path, "below"), Raw, ExportOptions{})
	wantProblem(t, err, "image.unwritable")
	_, err = Export(t.Context(), source, filepath.Join(filepath.Dir(path), "none", "out"), Raw, ExportOptions{})
	wantProblem(t, err, "image.unwritable")
	_, err = Export(t.Context(), source, path+"2", "vdi", ExportOptions{})
	wantProblem(t, err, "image.format")
	_, err = ParseFormat("vdi")
	wantProblem(t, err, "image.format")
}

// failing is a source that cannot be read beyond an offset.
type failing struct {
	replication.Source
	from int64
	err  error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.Source.ReadAt(p, off)
}

func TestAFailedExportLeavesNothing(t *testing.T) {
	bad := &replication.Problem{Code: "test.bad", Cause: "a bad sector", Effect: "none", Action: "replace the disk", Remedy: replication.Retry}
	source := failing{open(t, written(t, 8<<20)), 5 << 20, bad}
	for _, format := range Formats {
		if _, converted := format.converted(); converted {
			if _, err := exec.LookPath("qemu-img"); err != nil {
				continue
			}
		}
		dir := t.TempDir()
		_, err := Export(t.Context(), source, filepath.Join(dir, "out"), format, ExportOptions{})
		wantProblem(t, err, "test.bad")
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
			t.Errorf("%s: left behind: %v", format, left)
		}
	}
}

// endless is a source whose regions never end by themselves.
type endless struct{ replication.Source }

func (e endless) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for ctx.Err() == nil {
			if !yield(replication.Region{Extent: replication.Extent{Length: 1}}, nil) {
				return
			}
		}
		yield(replication.Region{}, ctx.Err())
	}
}

func TestACanceledExportLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Export(ctx, endless{open(t, written(t, 1<<20))}, filepath.Join(dir, "out"), Raw, ExportOptions{Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTwoExportsToOneNameDoNotMix(t *testing.T) {
	source := open(t, written(t, 1<<20))
	path := filepath.Join(t.TempDir(), "out")
	var inner error
	_, err := Export(t.Context(), source, path, Raw, ExportOptions{Progress: func(done, total int64) {
		if inner == nil {
			_, inner = Export(t.Context(), source, path, Raw, ExportOptions{})
		}
	}})
	if err != nil {
		t.Error(err)
	}
	wantProblem(t, inner, "image.busy")
}

func TestWhatAnInterruptedExportLeftIsOverwritten(t *testing.T) {
	source := open(t, written(t, 1<<20+1))
	path := filepath.Join(t.TempDir(), "out")
	os.WriteFile(path+partialSuffix, bytes.Repeat([]byte{9}, 3<<20), 0o600)
	if _, err := Export(t.Context(), source, path, Raw, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(path)
	want, _ := io.ReadAll(io.NewSectionReader(source, 0, source.Size()))
	if !bytes.Equal(got, want) {
		t.Error("the export differs from the source")
	}
}

func TestWithoutQemuImgItIsSaidWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Export(t.Context(), open(t, written(t, 512)), filepath.Join(t.TempDir(), "out"), QCOW2, ExportOptions{})
	wantProblem(t, err, "image.no-qemu-img")
	if err != nil && !strings.Contains(err.Error(), "qemu-utils") {
		t.Errorf("got %v, want it to name the package", err)
	}
}

// large is a source of any size that is all zero.
type large struct{ size int64 }

func (l large) Size() int64 { return l.size }

func (l large) ReadAt(p []byte, off int64) (int, error) { clear(p); return len(p), nil }

func (l large) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		yield(replication.Region{Extent: replication.Extent{Length: l.size}, Zero: true}, nil)
	}
}

func TestATooLargeVHDIsRefusedBeforehand(t *testing.T) {
	_, err := Export(t.Context(), large{maxVHDSize + 1}, filepath.Join(t.TempDir(), "out"), VHD, ExportOptions{})
	wantProblem(t, err, "image.too-large")
}

// TestAFullDiskIsToldAndCleanedUp needs root and a small file system.
func TestAFullDiskIsToldAndCleanedUp(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	need(t, "mount", "umount")
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m", "none", dir).CombinedOutput(); err != nil {
		t.Skipf("mounting is not permitted: %s", out)
	}
	defer exec.Command("umount", dir).Run()
	source := open(t, written(t, 50<<20))
	for _, format := range Formats {
		if _, converted := format.converted(); converted {
			need(t, "qemu-img")
		}
		_, err := Export(t.Context(), source, filepath.Join(dir, "out"), format, ExportOptions{})
		wantProblem(t, err, "image.full")
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
			t.Errorf("%s: left behind: %v", format, left)
		}
	}
}
