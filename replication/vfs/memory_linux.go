package vfs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// largePage is the size of the large pages of most machines; where they have another,
// the memory is as any other there.
const largePage = 2 << 20

// large gives n bytes, whole large pages, that lie in such.
func large(n int) []byte {
	// Nothing is touched before it is used, so what the alignment leaves over costs
	// address space only.
	p := make([]byte, n+largePage)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(p))) % largePage)
	p = p[skip : skip+n : skip+n]
	_ = unix.Madvise(p, unix.MADV_HUGEPAGE) // without large pages it is memory still
	return p
}
