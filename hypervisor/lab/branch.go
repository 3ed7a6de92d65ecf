package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// branch is one life of a machine between a boot and the next: it begins at an
// instant of another branch and goes on from there. Its file is a header and the
// entries in order, appended before the data they speak of is written.
type branch struct {
	number         uint32
	parent         uint32
	parentSequence uint64 // the last sequence of the parent that is part of this life
	started        time.Time
	site           string

	mu      sync.RWMutex // guards what follows; appending to the file is part of it
	entries []entry      // only appended to: a reader may keep a copy of the slice
	file    *os.File
}

// instant names a moment of a machine's life: after this sequence of this branch.
type instant struct {
	branch   uint32
	sequence uint64
}

func (i instant) String() string {
	return fmt.Sprintf("sequence %d of branch %d", i.sequence, i.branch)
}

const (
	branchMagic      = "riparoLB"
	branchVersion    = 1
	branchHeaderSize = 128
	maxSiteName      = 64
)

func branchFile(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("branch-%06d", number))
}

// createBranch writes the file of a new branch.
func createBranch(dir string, b *branch) error {
	header := make([]byte, branchHeaderSize)
	copy(header, branchMagic)
	binary.LittleEndian.PutUint32(header[8:], branchVersion)
	binary.LittleEndian.PutUint32(header[12:], b.number)
	binary.LittleEndian.PutUint32(header[16:], b.parent)
	binary.LittleEndian.PutUint64(header[24:], b.parentSequence)
	binary.LittleEndian.PutUint64(header[32:], uint64(b.started.UnixNano()))
	copy(header[branchHeaderSize-maxSiteName:], b.site)
	file, err := os.OpenFile(branchFile(dir, b.number), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create branch %d of the record: %w", b.number, err)
	}
	if _, err := file.WriteAt(header, 0); err != nil {
		return errors.Join(fmt.Errorf("create branch %d of the record: %w", b.number, err), file.Close())
	}
	b.file = file
	return nil
}

// errTornBranch: the process ended while it created the file; nothing was written
// on that branch yet.
var errTornBranch = errors.New("the branch was not finished being created")

// openBranch reads a branch file. Half an entry at its end is dropped: its data
// was not written yet.
func openBranch(path string) (*branch, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the record: %w", err)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the record %s: %w", path, err), file.Close())
	}
	if len(content) < branchHeaderSize {
		return nil, errors.Join(errTornBranch, file.Close())
	}
	if string(content[:8]) != branchMagic || binary.LittleEndian.Uint32(content[8:]) != branchVersion {
		return nil, errors.Join(fmt.Errorf("%s is not a branch of a lab record of version %d", path, branchVersion), file.Close())
	}
	b := &branch{
		number:         binary.LittleEndian.Uint32(content[12:]),
		parent:         binary.LittleEndian.Uint32(content[16:]),
		parentSequence: binary.LittleEndian.Uint64(content[24:]),
		started:        time.Unix(0, int64(binary.LittleEndian.Uint64(content[32:]))),
		site:           string(bytes.TrimRight(content[branchHeaderSize-maxSiteName:branchHeaderSize], "\x00")),
		file:           file,
	}
	content = content[branchHeaderSize:]
	b.entries = make([]entry, len(content)/entrySize)
	for i := range b.entries {
		b.entries[i] = decodeEntry(content[i*entrySize:])
	}
	return b, nil
}

// append adds an entry and gives its sequence. The entry is in the file when it
// returns, so that a killed process leaves no data on a disk that the record does
// not know of.
func (b *branch) append(e entry) (uint64, error) {
	var encoded [entrySize]byte
	e.encode(encoded[:])
	b.mu.Lock()
	defer b.mu.Unlock()
	at := branchHeaderSize + int64(len(b.entries))*entrySize
	if _, err := b.file.WriteAt(encoded[:], at); err != nil {
		return 0, fmt.Errorf("append to branch %d of the record: %w", b.number, err)
	}
	b.entries = append(b.entries, e)
	return b.parentSequence + uint64(len(b.entries)), nil
}

// life is what a reader sees of a branch: it does not change any more.
type life struct {
	number         uint32
	parent         uint32
	parentSequence uint64
	started        time.Time
	site           string
	entries        []entry
}

func (b *branch) snapshot() life {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return life{b.number, b.parent, b.parentSequence, b.started, b.site, b.entries}
}

// at gives the entry of a sequence that belongs to this branch itself.
func (l life) at(sequence uint64) (entry, bool) {
	if sequence <= l.parentSequence || sequence > l.end() {
		return entry{}, false
	}
	return l.entries[sequence-l.parentSequence-1], true
}

// end is the last sequence of the branch.
func (l life) end() uint64 { return l.parentSequence + uint64(len(l.entries)) }
