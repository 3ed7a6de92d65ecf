package vfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// aligned gives n random bytes at an address that direct writes take.
func aligned(r *rand.Rand, n int) []byte {
	p := make([]byte, n+directAlignment)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(p))) % directAlignment)
	p = p[skip : skip+n]
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func TestAReservedFileHoldsWhatWasWrittenEitherWay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	name := filepath.Join(t.TempDir(), "log")
	f, err := OS().Create(name)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	direct := f.(*osFile)
	for step := range 40 {
		if step%5 == 0 {
			f.(Reserver).Reserve(int64(len(want)) + 4<<20)
		}
		if size, err := f.Size(); err != nil || size != int64(len(want)) {
			t.Fatalf("step %d: size %d, error %v: want %d, whatever is reserved", step, size, err, len(want))
		}
		p := aligned(r, []int{4096, minDirect, 1 << 20, 3 * minDirect}[r.IntN(4)])
		if r.IntN(3) == 0 { // memory that cannot be written directly
			p = append(make([]byte, 0, len(p)+1), p...)
			p = append([]byte{0}, p...)[1:]
		}
		if n, err := f.WriteAt(p, int64(len(want))); n != len(p) || err != nil {
			t.Fatalf("step %d: wrote %d of %d bytes: %v", step, n, len(p), err)
		}
		want = append(want, p...)
		if step%7 == 0 {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, want) {
			t.Fatalf("step %d: the file has other content, error %v", step, err)
		}
	}
	if direct.direct.file == nil && !direct.direct.refused.Load() {
		t.Error("Reserve did not try to open the file for direct writes")
	}
	tail := []byte("a footer of any length")
	if _, err := f.WriteAt(tail, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	want = append(want, tail...)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after Close the file has other content, error %v", err)
	}
}

func TestReservedRoomIsGivenBack(t *testing.T) {
	taken := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	for _, how := range []string{"Close", "Truncate"} {
		name := filepath.Join(t.TempDir(), "log")
		f, err := OS().Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
			t.Fatal(err)
		}
		f.(Reserver).Reserve(8 << 20)
		if taken(name) < 8<<20 {
			t.Skip("the file system under the temporary folder sets no room aside")
		}
		if how == "Truncate" {
			if err := f.Truncate(4096); err != nil {
				t.Fatal(err)
			}
			if got := taken(name); got > 1<<20 {
				t.Errorf("after Truncate to its size the file takes %d bytes", got)
			}
			f.(Reserver).Reserve(8 << 20)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := taken(name); got > 1<<20 {
			t.Errorf("after %s and Close a file of 4096 bytes takes %d", how, got)
		}
	}
}

func TestAReaderGivesWhatTheFileHasCachedOrNot(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	name := filepath.Join(t.TempDir(), "image")
	want := aligned(r, 5<<20)
	want = want[:5<<20-1234]
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reader := NewReader(f, int64(len(want)))
	defer reader.Close()
	for step := range 200 {
		if step%4 == 0 { // parts of the file leave the page cache
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			at := r.Int64N(int64(len(want)))
			if err := unix.Fadvise(int(f.Fd()), at, 1<<20, unix.FADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
		}
		if step%5 == 0 { // what was just written is read, synced or not
			at := r.Int64N(int64(len(want)) - 100)
			copy(want[at:], "written a moment ago")
			if _, err := f.WriteAt([]byte("written a moment ago"), at); err != nil {
				t.Fatal(err)
			}
		}
		p := aligned(r, []int{1, 4096, minDirect, 1 << 20}[r.IntN(4)])
		at := r.Int64N(int64(len(want)))
		if r.IntN(3) > 0 {
			at = at / directAlignment * directAlignment
		}
		n, err := reader.ReadAt(p, at)
		if n != min(len(p), len(want)-int(at)) || err != nil && (err != io.EOF || n == len(p)) || !bytes.Equal(p[:n], want[at:int(at)+n]) {
			t.Fatalf("step %d: %d of %d bytes at %d, error %v, or other bytes", step, n, len(p), at, err)
		}
	}
	if err := os.Truncate(name, 1<<20); err != nil {
		t.Fatal(err)
	}
	if n, err := reader.ReadAt(aligned(r, 1<<20), 2<<20); n != 0 || err != io.EOF {
		t.Errorf("behind the end of a file that was cut: %d bytes, error %v", n, err)
	}
}

// TestAReaderTellsWhatIsCached: of the data of a range, whatever its holes.
func TestAReaderTellsWhatIsCached(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size, island = 1 << 20, 4 << 10
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{100 << 10, 900 << 10} {
		if _, err := f.WriteAt(make([]byte, island), at); err != nil {
			t.Fatal(err)
		}
	}
	reader := NewReader(f, size)
	defer reader.Close()
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
	if reader.Cached(0, size, 2*island) {
		if reader.direct == nil || reader.refused.Load() {
			t.Skip("this file system or kernel has no way around the page cache, or does not tell what is in it")
		}
		t.Error("what was thrown out of the page cache is said to be there")
	}
	if _, err := f.ReadAt(make([]byte, island), 100<<10); err != nil {
		t.Fatal(err)
	}
	if !reader.Cached(0, size, 2*island) {
		t.Error("half of the data is in the page cache, and is said not to be")
	}
	if reader.Cached(512<<10, 512<<10, island) {
		t.Error("another half is said to be there as well")
	}
}

func TestAWriterWritesBothWays(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := make([]byte, 8<<20)
	if err := f.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(f)
	for range 60 {
		p := aligned(r, []int{512, 4096, minDirect, 1 << 20}[r.IntN(4)])
		at := r.Int64N(int64(len(want)-len(p))) / 512 * 512
		if r.IntN(2) == 0 {
			at = at / directAlignment * directAlignment
		}
		if n, err := w.WriteAt(p, at); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		copy(want[at:], p)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file has other content, error %v", err)
	}
}
