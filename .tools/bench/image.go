package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"compress/gzip"
)

// disk is an image that is laid out as a file system lays out a disk in use: files
// at multiples of 4 KiB, in groups with free space between them, and a table of what
// is where at the head of each group. It needs no root and no loop device, and the
// same files on the machine and the same seed give the same image.
type disk struct {
	file   *os.File
	random *rand.Rand
	size   int64
	budget int64 // bytes of data that the disk gets
	used   int64
	at     int64 // where the next file goes
	gap    int64 // free bytes at the end of each group
	placed []placed
	edits  []extent // what changed since the image was made
	err    error    // the first one; nothing is written after it
}

// placed is a file on the disk.
type placed struct {
	kind   string
	offset int64
	length int64
}

type extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

const (
	fileGrain  = 4 << 10
	groupBytes = 128 << 20
	tableBytes = 2 << 20 // of each group: bitmaps and inodes
)

// share is a part of the data of a disk, in percent.
type share struct {
	kind    string
	percent int64
	add     func(d *disk, budget int64)
}

// shares is what the machine of workload W1 has on its disk: programs and libraries
// of this machine, the sources of Go, archives, media, logs, a database, and what
// deleted files left behind.
var shares = []share{
	{"programs and libraries", 40, func(d *disk, n int64) {
		d.addTree("programs", "/usr/lib", n/2)
		d.addTree("programs", "/usr/bin", n-n/2)
	}},
	{"documents and data", 6, func(d *disk, n int64) { d.addTree("documents", "/usr/share", n) }},
	{"sources", 10, func(d *disk, n int64) { d.addTree("sources", runtime.GOROOT(), n) }},
	{"archives", 5, func(d *disk, n int64) { d.addArchive(n) }},
	{"media", 12, func(d *disk, n int64) { d.addMade("media", n, 20<<20, noise) }},
	{"logs", 10, func(d *disk, n int64) { d.addMade("log", n, 50<<20, logText) }},
	{"database", 13, func(d *disk, n int64) { d.addMade("database", n, n, database) }},
	{"left by deleted files", 4, func(d *disk, n int64) {
		d.addMade("deleted", n/2, 20<<20, noise)
		d.addMade("deleted", n/2, 20<<20, logText)
	}},
}

// makeDisk makes the image of W1.
func makeDisk(path string, size, data int64, seed uint64) (_ *disk, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	d := &disk{file: f, random: randomOf(seed, "disk"), size: size, budget: data}
	groups := size / groupBytes
	d.gap = groupBytes - data/groups - data/groups/16
	d.at = d.group(0)
	for _, s := range shares {
		before := d.used
		n := data * s.percent / 100
		s.add(d, n)
		// A machine that has too little of it gets more of what can be made.
		if missing := n - (d.used - before); missing > 64<<20 {
			d.addMade("log", missing/2, 50<<20, logText)
			d.addMade("media", missing/2, 20<<20, noise)
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	return d, f.Sync()
}

// group writes the table of the group that begins at an offset and gives where its
// files begin: counted entries, as inodes are, that compress well.
func (d *disk) group(at int64) int64 {
	p := make([]byte, tableBytes)
	for i := 0; i+256 <= len(p)/2; i += 256 {
		copy(p[i:], fmt.Appendf(nil, "%08x mode=0644 links=1", at/fileGrain+int64(i)))
		noise(d.random, p[i+64:i+96])
	}
	d.write(p, at)
	return at + tableBytes
}

func (d *disk) write(p []byte, at int64) {
	if d.err == nil {
		_, d.err = d.file.WriteAt(p, at)
	}
}

// place finds room for a file and skips the free space at the end of a group.
func (d *disk) place(length int64) (at int64, ok bool) {
	length = (length + fileGrain - 1) / fileGrain * fileGrain
	if inGroup := d.at % groupBytes; inGroup+length > groupBytes-d.gap && inGroup > tableBytes {
		next := (d.at/groupBytes + 1) * groupBytes
		if next+tableBytes+length > d.size {
			return 0, false
		}
		d.at = d.group(next)
	}
	if d.at+length > d.size {
		return 0, false
	}
	at = d.at
	d.at += length
	d.used += length
	return at, true
}

func (d *disk) put(kind string, p []byte) bool {
	at, ok := d.place(int64(len(p)))
	if ok {
		d.write(p, at)
		d.placed = append(d.placed, placed{kind, at, int64(len(p))})
	}
	return ok
}

// maxFile keeps one huge file from being most of a small disk.
const maxFile = 64 << 20

// filesBelow lists regular files in a seeded order by folder, so that one folder more
// on the machine moves one place and not the whole choice.
func filesBelow(root string, seed uint64) []string {
	folders := map[string][]string{}
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error { // what cannot be read is left out
		if err == nil && e.Type().IsRegular() {
			folders[filepath.Dir(path)] = append(folders[filepath.Dir(path)], path)
		}
		return nil
	})
	keys := map[string]uint64{}
	var names []string
	for name := range folders {
		names = append(names, name)
		keys[name] = randomOf(seed, name).Uint64()
	}
	slices.SortFunc(names, func(a, b string) int {
		if keys[a] != keys[b] {
			if keys[a] < keys[b] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var files []string
	for _, name := range names {
		files = append(files, folders[name]...)
	}
	return files
}

// addTree places real files.
func (d *disk) addTree(kind, root string, budget int64) {
	end := d.used + budget
	for _, path := range filesBelow(root, 7) {
		if d.used >= end || d.err != nil {
			return
		}
		info, err := os.Stat(path)
		if err != nil || info.Size() == 0 || info.Size() > maxFile {
			continue
		}
		p, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if !d.put(kind, p) {
			return
		}
	}
}

// limitedBuffer keeps what is written to it up to a limit.
type limitedBuffer struct {
	p     []byte
	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.p = append(b.p, p[:min(len(p), b.limit-len(b.p))]...)
	return len(p), nil
}

// addArchive places archives: real files, compressed.
func (d *disk) addArchive(budget int64) {
	const length = 24 << 20
	files := filesBelow(filepath.Join(runtime.GOROOT(), "src"), 11)
	files = append(files, filesBelow("/usr/share", 11)...)
	end := d.used + budget
	for d.used < end && len(files) > 0 && d.err == nil {
		b := &limitedBuffer{limit: length}
		z, _ := gzip.NewWriterLevel(b, gzip.BestSpeed) // the level is known to be valid
		for len(b.p) < length && len(files) > 0 {
			if p, err := os.ReadFile(files[0]); err == nil && len(p) < maxFile {
				_, _ = z.Write(p) // limitedBuffer takes everything
			}
			files = files[1:]
		}
		_ = z.Close()
		if !d.put("archive", b.p) {
			return
		}
	}
}

// addMade places generated files of up to a length.
func (d *disk) addMade(kind string, budget, most int64, fill func(*rand.Rand, []byte)) {
	for budget > 0 && d.err == nil {
		n := min(budget, most/4+d.random.Int64N(most*3/4+1), groupBytes-d.gap-tableBytes)
		n = max(n/pageBytes*pageBytes, pageBytes)
		p := make([]byte, n)
		fill(d.random, p)
		if !d.put(kind, p) {
			return
		}
		budget -= n
	}
}

func database(r *rand.Rand, p []byte) {
	for at := 0; at+pageBytes <= len(p); at += pageBytes {
		databasePage(r, p[at:at+pageBytes], uint64(at/pageBytes))
	}
}

// edit overwrites a part of the disk and notes it.
func (d *disk) edit(p []byte, at int64) {
	d.write(p, at)
	start := at / fileGrain * fileGrain
	end := (at + int64(len(p)) + fileGrain - 1) / fileGrain * fileGrain
	d.edits = append(d.edits, extent{start, min(end, d.size) - start})
}

// writeList writes the changed extents as `riparo disk replicate --changed` takes them.
func writeList(path string, extents []extent) error {
	slices.SortFunc(extents, func(a, b extent) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	var out []byte
	for i := 0; i < len(extents); {
		e := extents[i]
		for i++; i < len(extents) && extents[i].Offset <= e.Offset+e.Length; i++ {
			e.Length = max(e.Length, extents[i].Offset+extents[i].Length-e.Offset)
		}
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		out = append(append(out, line...), '\n')
	}
	return os.WriteFile(path, out, 0o600)
}
