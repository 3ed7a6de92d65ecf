package blockcut

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
)

// pageBytes is what a picture shares or holes.
const pageBytes = 16 << 10

// picture is the content of a disk. Most of it is zero and in no page, and copies share
// their pages: those are never changed, only replaced.
type picture struct {
	size  int64
	pages [][]byte
}

func blank(size int64) *picture {
	return &picture{size: size, pages: make([][]byte, (size+pageBytes-1)/pageBytes)}
}

// pictureOf reads all of a file.
func pictureOf(path string) (*picture, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p := blank(info.Size())
	b, zeroes := make([]byte, pageBytes), make([]byte, pageBytes)
	for i := range p.pages {
		n, err := f.ReadAt(b, int64(i)*pageBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if clear(b[n:]); !bytes.Equal(b, zeroes) {
			p.pages[i] = slices.Clone(b)
		}
	}
	return p, nil
}

func (p *picture) clone() *picture { return &picture{size: p.size, pages: slices.Clone(p.pages)} }

// write puts content at an offset.
func (p *picture) write(content []byte, at int64) {
	for len(content) > 0 {
		page := make([]byte, pageBytes)
		copy(page, p.pages[at/pageBytes])
		n := copy(page[at%pageBytes:], content)
		p.pages[at/pageBytes] = page
		content, at = content[n:], at+int64(n)
	}
}

// save writes a file with holes where there is no page.
func (p *picture) save(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for i, page := range p.pages {
		at := int64(i) * pageBytes
		if page == nil {
			continue
		}
		if _, err := f.WriteAt(page[:min(pageBytes, p.size-at)], at); err != nil {
			return err
		}
	}
	return f.Truncate(p.size)
}
