package vfs

import (
	"runtime"
	"testing"
	"unsafe"
)

func TestPiecesLieApartAndOnPages(t *testing.T) {
	for _, size := range []int{1, 4096, 100_000, 512 << 10, 1 << 20, 1<<20 + 1, 3 << 20} {
		pieces := NewPieces(size)
		var all [][]byte
		for k := range 7 {
			p := pieces.Take()
			if len(p) != size || cap(p) != size {
				t.Fatalf("a piece of %d bytes has %d, and room for %d", size, len(p), cap(p))
			}
			if at := uintptr(unsafe.Pointer(unsafe.SliceData(p))); at%4096 != 0 {
				t.Errorf("a piece of %d bytes begins at %#x: no direct read or write takes it", size, at)
			}
			for i := range p {
				p[i] = byte(k + 1)
			}
			all = append(all, p)
		}
		for k, p := range all {
			for i := range p {
				if p[i] != byte(k+1) {
					t.Fatalf("pieces of %d bytes overlap", size)
				}
			}
		}
		pieces.Free()
	}
}

func TestLargePagesAreUsedAgain(t *testing.T) {
	use := func() {
		pieces := NewPieces(512 << 10)
		defer pieces.Free()
		for range 8 {
			clear(pieces.Take())
		}
	}
	use()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		use()
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > largePage {
		t.Errorf("4 MiB in pieces, given back 10 times, took %d bytes of allocations", n)
	}
}
