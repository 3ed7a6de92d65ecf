package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"
)

// This file reads the pages of a bbolt file with care. bbolt maps its file and
// trusts it: a damaged page ends the process with a fault, in a goroutine of its
// own where nobody can catch it. So the pages are walked first, every number is
// compared with its bounds before it is used, and damage becomes a sentence.
//
// The format is that of bbolt version 2, in the byte order of the machine.

const (
	pageHeader  = 16 // id 8, flags 2, count 2, overflow 4
	pageElement = 16 // leaf: flags 4, pos 4, ksize 4, vsize 4; branch: pos 4, ksize 4, page 8
	bucketInfo  = 16 // root page 8, sequence 8
	metaBytes   = 64 // what the checksum covers, 56, and the checksum

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketFlag   = 0x01

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = math.MaxUint64
	// maxDepth bounds the walk. A tree of our 1 GiB is five pages high; buckets
	// are not nested.
	maxDepth = 64
)

var native = binary.NativeEndian

// pageWalk is one walk through a file.
type pageWalk struct {
	file     io.ReaderAt
	size     int64
	pageSize int64
	pages    uint64          // page numbers in use are below this
	seen     map[uint64]bool // pages met, with their overflow
}

// checkPages walks all pages of a bbolt file. Its caller keeps others from
// writing to it.
func checkPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w := &pageWalk{file: f, size: info.Size(), seen: map[uint64]bool{}}
	return w.walk()
}

func (w *pageWalk) walk() error {
	meta, err := w.newestMeta()
	if err != nil {
		return err
	}
	root, freelist := native.Uint64(meta[16:]), native.Uint64(meta[32:])
	w.pages = native.Uint64(meta[40:])
	if w.pages > uint64(w.size/w.pageSize) {
		return &damage{what: fmt.Sprintf("it was cut: it has %d bytes of %d pages of %d", w.size, w.pages, w.pageSize)}
	}
	w.seen[0], w.seen[1] = true, true
	if err := w.tree(root, nil, nil, 0); err != nil {
		return err
	}
	free := map[uint64]bool{}
	if freelist != noFreelist {
		if free, err = w.freelist(freelist); err != nil {
			return err
		}
	}
	for id := range w.pages {
		if !w.seen[id] && !free[id] && freelist != noFreelist {
			return &damage{what: fmt.Sprintf("page %d is neither used nor free", id)}
		}
	}
	return nil
}

// newestMeta finds the two meta pages and gives the newer one that is whole. One
// that is not is what a write cut off by a power failure leaves; bbolt goes on
// from the other, and so do we.
func (w *pageWalk) newestMeta() (newest []byte, err error) {
	first := w.meta(0)
	if first != nil {
		newest = first
		w.pageSize = int64(native.Uint32(first[8:]))
	}
	for size := int64(1024); size <= 1<<24; size *= 2 {
		if first != nil && size != w.pageSize {
			continue
		}
		if m := w.meta(size); m != nil && int64(native.Uint32(m[8:])) == size {
			w.pageSize = size
			if newest == nil || native.Uint64(m[48:]) > native.Uint64(newest[48:]) {
				newest = m
			}
			break
		}
	}
	if newest == nil || w.pageSize < 1024 {
		return nil, &damage{what: "neither of its two first pages is whole"}
	}
	return newest, nil
}

// meta gives the meta page at offset, or nil.
func (w *pageWalk) meta(offset int64) []byte {
	page := make([]byte, pageHeader+metaBytes)
	if _, err := w.file.ReadAt(page, offset); err != nil {
		return nil
	}
	m := page[pageHeader:]
	sum := fnv.New64a()
	sum.Write(m[:56])
	if native.Uint32(m) != boltMagic || native.Uint32(m[4:]) != boltVersion || native.Uint64(m[56:]) != sum.Sum64() {
		return nil
	}
	return m
}

// page reads page id with its overflow and marks it as met.
func (w *pageWalk) page(id uint64) ([]byte, error) {
	if id < 2 || id >= w.pages {
		return nil, &damage{what: fmt.Sprintf("page %d of %d is referred to", id, w.pages)}
	}
	header := make([]byte, pageHeader)
	if _, err := w.file.ReadAt(header, int64(id)*w.pageSize); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	if own := native.Uint64(header); own != id {
		return nil, &damage{what: fmt.Sprintf("page %d says it is page %d", id, own)}
	}
	overflow := uint64(native.Uint32(header[12:]))
	if overflow >= w.pages-id {
		return nil, &damage{what: fmt.Sprintf("page %d goes on for %d pages", id, overflow)}
	}
	for i := id; i <= id+overflow; i++ {
		if w.seen[i] {
			return nil, &damage{what: fmt.Sprintf("page %d is used twice", i)}
		}
		w.seen[i] = true
	}
	page := make([]byte, int64(overflow+1)*w.pageSize)
	if _, err := w.file.ReadAt(page, int64(id)*w.pageSize); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return page, nil
}

// tree walks the tree below page id, whose keys are at least low and below high.
func (w *pageWalk) tree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return &damage{what: fmt.Sprintf("page %d lies %d pages deep", id, depth)}
	}
	page, err := w.page(id)
	if err != nil {
		return err
	}
	switch flags := native.Uint16(page[8:]); flags {
	case leafPage:
		return w.leaf(page, fmt.Sprintf("page %d", id), low, high, depth)
	case branchPage:
		return w.branch(page, fmt.Sprintf("page %d", id), low, high, depth)
	default:
		return &damage{what: fmt.Sprintf("page %d has the type %#x", id, flags)}
	}
}

// count is the number of elements of a page, which must fit in.
func count(page []byte, name string) (int, error) {
	n := int(native.Uint16(page[10:]))
	if pageHeader+n*pageElement > len(page) {
		return 0, &damage{what: fmt.Sprintf("%s has %d elements", name, n)}
	}
	return n, nil
}

// text is what element i of n points to: size bytes, pos behind the element.
func text(page []byte, name string, i, n int, pos, size uint32) ([]byte, error) {
	from := uint64(pageHeader+i*pageElement) + uint64(pos)
	to := from + uint64(size)
	if from < uint64(pageHeader+n*pageElement) || to > uint64(len(page)) {
		return nil, &damage{what: fmt.Sprintf("element %d of %s points outside", i, name)}
	}
	return page[from:to], nil
}

// inOrder checks that key is not empty and lies behind the one before it, at or
// behind low and before high; nil is no bound.
func inOrder(key, before, low, high []byte, name string, i int) error {
	if len(key) == 0 || before != nil && bytes.Compare(before, key) >= 0 ||
		low != nil && bytes.Compare(low, key) > 0 || high != nil && bytes.Compare(key, high) >= 0 {
		return &damage{what: fmt.Sprintf("key %d of %s is out of order", i, name)}
	}
	return nil
}

func (w *pageWalk) branch(page []byte, name string, low, high []byte, depth int) error {
	n, err := count(page, name)
	if err != nil {
		return err
	}
	if n == 0 {
		return &damage{what: name + " leads nowhere"}
	}
	keys, ids := make([][]byte, n), make([]uint64, n)
	for i := range n {
		e := page[pageHeader+i*pageElement:]
		if keys[i], err = text(page, name, i, n, native.Uint32(e), native.Uint32(e[4:])); err != nil {
			return err
		}
		var before []byte
		if i > 0 {
			before = keys[i-1]
		}
		if err := inOrder(keys[i], before, low, high, name, i); err != nil {
			return err
		}
		ids[i] = native.Uint64(e[8:])
	}
	for i, id := range ids {
		end := high
		if i+1 < n {
			end = keys[i+1]
		}
		if err := w.tree(id, keys[i], end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *pageWalk) leaf(page []byte, name string, low, high []byte, depth int) error {
	n, err := count(page, name)
	if err != nil {
		return err
	}
	var before []byte
	for i := range n {
		e := page[pageHeader+i*pageElement:]
		flags, pos, ksize, vsize := native.Uint32(e), native.Uint32(e[4:]), native.Uint32(e[8:]), native.Uint32(e[12:])
		key, err := text(page, name, i, n, pos, ksize)
		if err != nil {
			return err
		}
		if err := inOrder(key, before, low, high, name, i); err != nil {
			return err
		}
		before = key
		if uint64(pos)+uint64(ksize) > math.MaxUint32 {
			return &damage{what: fmt.Sprintf("element %d of %s points outside", i, name)}
		}
		value, err := text(page, name, i, n, pos+ksize, vsize)
		if err != nil {
			return err
		}
		switch flags {
		case 0:
		case bucketFlag:
			if err := w.bucket(value, string(key), depth); err != nil {
				return err
			}
		default:
			return &damage{what: fmt.Sprintf("element %d of %s has the type %#x", i, name, flags)}
		}
	}
	return nil
}

// bucket walks a bucket: a tree of its own or, when small, a page inside the value.
func (w *pageWalk) bucket(value []byte, name string, depth int) error {
	if len(value) < bucketInfo {
		return &damage{what: fmt.Sprintf("the bucket %q has %d bytes", name, len(value))}
	}
	if root := native.Uint64(value); root != 0 {
		return w.tree(root, nil, nil, depth+1)
	}
	inline := value[bucketInfo:]
	if len(inline) < pageHeader || native.Uint16(inline[8:]) != leafPage || native.Uint64(inline) != 0 {
		return &damage{what: fmt.Sprintf("the bucket %q has no page", name)}
	}
	return w.leaf(inline, fmt.Sprintf("bucket %q", name), nil, nil, depth+1)
}

// freelist reads the list of free pages, none of which may be in use.
func (w *pageWalk) freelist(id uint64) (map[uint64]bool, error) {
	page, err := w.page(id)
	if err != nil {
		return nil, err
	}
	if flags := native.Uint16(page[8:]); flags != freelistPage {
		return nil, &damage{what: fmt.Sprintf("the list of free pages has the type %#x", flags)}
	}
	ids := page[pageHeader:]
	n := uint64(native.Uint16(page[10:]))
	if n == 0xFFFF { // too many for the field: the first entry is their number
		n, ids = native.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return nil, &damage{what: fmt.Sprintf("the list of free pages has %d entries", n)}
	}
	free := make(map[uint64]bool, n)
	list := make([]uint64, 0, n)
	for i := range n {
		page := native.Uint64(ids[i*8:])
		if page < 2 || page >= w.pages || w.seen[page] || free[page] {
			return nil, &damage{what: fmt.Sprintf("page %d is listed as free and is not", page)}
		}
		free[page] = true
		list = append(list, page)
	}
	if !slices.IsSorted(list) {
		return nil, &damage{what: "the list of free pages is out of order"}
	}
	return free, nil
}
