package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of the simulated disk.
var (
	// ErrPowerCut is what every operation returns once the power is cut.
	ErrPowerCut = errors.New("the power was cut")
	// ErrIO stands for EIO.
	ErrIO = errors.New("input/output error")
)

// Sector is the unit in which a write of the simulated disk tears, bytes.
const Sector = 512

// Sim is a disk made of memory, as harsh as the promises of [FS] allow. When the
// power is cut, and [Sim.Restart] gives the disk as it is found afterwards:
//
//   - of the writes that no Sync covered, any may be missing, whole or by sectors
//     of 512 bytes, and later ones may be there while earlier ones are not;
//   - space between what survived may hold junk instead of zeroes;
//   - names created, renamed and removed since the last SyncDir of their folder may
//     be as before, in any combination, even when the content was synced;
//   - a new file may be longer or shorter than it was.
//
// While it runs it can fail an fsync as Linux does (the data stays readable, some of it
// or all is gone after the next start, and the next fsync succeeds), run out of space,
// be slow, take no more changes, flip bits or lose sectors of what it holds, and lie: an fsync
// says that a write is durable which never arrived, or which lies in another place.
type Sim struct {
	mu      sync.Mutex // guards all below
	random  *rand.Rand
	current map[string]*node // the tree as programs see it
	durable map[string]*node // the tree as it is on the medium
	names   []nameChange     // what separates them, in order
	locks   map[string]int   // holders of each lock; exclusive is -1

	operations    int
	cutAt         int // 0: never
	cut           bool
	syncs         int
	failSyncAt    int // 0: never
	syncDirs      int // of folders
	failSyncDirAt int // 0: never
	readDelay     time.Duration
	syncDelay     time.Duration
	readOnlyAt    int // the operation from which on nothing changes; 0: never
	capacity      int64
	used          int64

	writes                  int // of content
	loseAt, misdirectAt     int // which of them never arrive where they belong; 0: none
	wentLost, wentElsewhere int // that an fsync promised all the same
}

// node is a file or a folder of the tree.
type node struct {
	dir     bool
	content []byte // as programs see it
	medium  []byte // as it is on the medium
	shared  bool   // both are the same bytes, which other disks may have too: see own
	pending []write
	bad     map[int64]bool // sectors that cannot be read
}

// write is a change of content that was not synced.
type write struct {
	offset   int64
	data     []byte
	truncate bool // to offset
	fate     fate
}

// fate of a write on its way to the medium.
type fate int

const (
	arrives       fate = iota
	isLost             // nothing of it reaches the medium
	goesElsewhere      // it reaches another place
)

// nameChange is a change of one folder that was not synced.
type nameChange struct {
	folder   string
	from, to string // created: only to; removed: only from
	node     *node
}

// NewSim makes an empty disk whose faults follow from seed.
func NewSim(seed uint64) *Sim {
	s := &Sim{
		random:  rand.New(rand.NewPCG(seed, 0x5eed)),
		current: map[string]*node{},
		durable: map[string]*node{},
		locks:   map[string]int{},
	}
	return s
}

// step counts an operation that changes the disk and cuts the power inside it
// when its time has come: the change is then begun but not promised. The caller
// holds mu and has made the change.
func (s *Sim) step(op, name string) error {
	s.operations++
	if s.operations == s.cutAt {
		s.cut = true
		return &fs.PathError{Op: op, Path: name, Err: ErrPowerCut}
	}
	return nil
}

func (s *Sim) dead(op, name string) error {
	if s.cut {
		return &fs.PathError{Op: op, Path: name, Err: ErrPowerCut}
	}
	return nil
}

// changes reports why an operation cannot change the disk. The caller holds mu.
func (s *Sim) changes(op, name string) error {
	if err := s.dead(op, name); err != nil {
		return err
	}
	if s.readOnlyAt > 0 && s.operations+1 >= s.readOnlyAt {
		return &fs.PathError{Op: op, Path: name, Err: ErrReadOnly}
	}
	return nil
}

func clean(name string) string { return filepath.Clean(name) }

// isTop reports whether name is where every tree begins.
func isTop(name string) bool { return name == "." || filepath.Dir(name) == name }

func (s *Sim) folderExists(name string) bool {
	n := s.current[name]
	return isTop(name) || n != nil && n.dir
}

// Create implements FS.
func (s *Sim) Create(name string) (File, error) {
	name = clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.changes("create", name); err != nil {
		return nil, err
	}
	if !s.folderExists(filepath.Dir(name)) {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrNotExist}
	}
	n := s.current[name]
	switch {
	case n != nil && n.dir:
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	case n != nil:
		s.used -= int64(len(n.content))
		n.own()
		n.content = nil
		n.pending = append(n.pending, write{truncate: true})
	default:
		if s.capacity > 0 && s.used >= s.capacity {
			return nil, &fs.PathError{Op: "create", Path: name, Err: ErrNoSpace}
		}
		n = &node{}
		s.current[name] = n
		s.names = append(s.names, nameChange{folder: filepath.Dir(name), to: name, node: n})
	}
	if err := s.step("create", name); err != nil {
		return nil, err
	}
	return &simFile{sim: s, name: name, node: n}, nil
}

// Open implements FS.
func (s *Sim) Open(name string) (File, error) { return s.open(name, false) }

// OpenRead implements FS.
func (s *Sim) OpenRead(name string) (File, error) { return s.open(name, true) }

func (s *Sim) open(name string, readOnly bool) (File, error) {
	name = clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.dead("open", name); err != nil {
		return nil, err
	}
	n := s.current[name]
	if n == nil || n.dir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &simFile{sim: s, name: name, node: n, readOnly: readOnly}, nil
}

// Rename implements FS.
func (s *Sim) Rename(from, to string) error {
	from, to = clean(from), clean(to)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.changes("rename", from); err != nil {
		return err
	}
	n := s.current[from]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	old := s.current[to]
	if n.dir || old != nil && old.dir || filepath.Dir(from) != filepath.Dir(to) {
		return &fs.PathError{Op: "rename", Path: from, Err: errors.New("only a file within its folder can be renamed")}
	}
	if old != nil {
		s.used -= int64(len(old.content))
	}
	c := nameChange{folder: filepath.Dir(from), from: from, to: to, node: n}
	c.apply(s.current)
	s.names = append(s.names, c)
	return s.step("rename", from)
}

// Remove implements FS.
func (s *Sim) Remove(name string) error {
	name = clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.changes("remove", name); err != nil {
		return err
	}
	n := s.current[name]
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if n.dir {
		for other := range s.current {
			if filepath.Dir(other) == name {
				return &fs.PathError{Op: "remove", Path: name, Err: errors.New("the folder is not empty")}
			}
		}
	}
	s.used -= int64(len(n.content))
	c := nameChange{folder: filepath.Dir(name), from: name}
	c.apply(s.current)
	s.names = append(s.names, c)
	return s.step("remove", name)
}

// MkdirAll implements FS.
func (s *Sim) MkdirAll(name string) error {
	name = clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.dead("mkdir", name); err != nil {
		return err
	}
	var missing []string
	for !s.folderExists(name) {
		if s.current[name] != nil {
			return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
		}
		missing = append(missing, name)
		name = filepath.Dir(name)
	}
	for _, m := range slices.Backward(missing) {
		if err := s.changes("mkdir", m); err != nil {
			return err
		}
		c := nameChange{folder: filepath.Dir(m), to: m, node: &node{dir: true}}
		c.apply(s.current)
		s.names = append(s.names, c)
		if err := s.step("mkdir", m); err != nil {
			return err
		}
	}
	return nil
}

// ReadDir implements FS.
func (s *Sim) ReadDir(name string) ([]Info, error) {
	name = clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.dead("readdir", name); err != nil {
		return nil, err
	}
	if !s.folderExists(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var infos []Info
	for path, n := range s.current {
		if path != name && filepath.Dir(path) == name {
			infos = append(infos, infoOfNode(path, n))
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// SyncDir implements FS.
func (s *Sim) SyncDir(name string) error {
	name = clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.changes("syncdir", name); err != nil {
		return err
	}
	s.syncDirs++
	if s.syncDirs == s.failSyncDirAt {
		return &fs.PathError{Op: "syncdir", Path: name, Err: ErrIO}
	}
	if err := s.step("syncdir", name); err != nil {
		return err // just before it took effect
	}
	rest := s.names[:0]
	for _, c := range s.names {
		if c.folder == name {
			c.apply(s.durable)
		} else {
			rest = append(rest, c)
		}
	}
	s.names = rest
	return nil
}

// Stat implements FS.
func (s *Sim) Stat(name string) (Info, error) {
	name = clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.dead("stat", name); err != nil {
		return Info{}, err
	}
	n := s.current[name]
	if n == nil {
		if isTop(name) {
			return Info{Name: name, Dir: true}, nil
		}
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return infoOfNode(name, n), nil
}

// Lock implements FS.
func (s *Sim) Lock(name, holder string, shared bool) (io.Closer, error) {
	name = clean(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.dead("lock", name); err != nil {
		return nil, err
	}
	held := s.locks[name]
	if held < 0 || held > 0 && !shared {
		return nil, &LockedError{Name: name, Holder: "another user of the simulated disk"}
	}
	add := -1
	if shared {
		add = 1
	}
	s.locks[name] = held + add
	return &simLock{sim: s, name: name, held: add}, nil
}

// Space implements FS.
func (s *Sim) Space(name string) (Space, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.dead("space", name); err != nil {
		return Space{}, err
	}
	if s.capacity == 0 {
		return Space{Total: 1 << 40, Free: 1<<40 - s.used}, nil
	}
	return Space{Total: s.capacity, Free: max(0, s.capacity-s.used)}, nil
}

func infoOfNode(path string, n *node) Info {
	return Info{Name: filepath.Base(path), Size: int64(len(n.content)), Dir: n.dir}
}

// apply makes the change in a tree.
func (c nameChange) apply(tree map[string]*node) {
	if c.from != "" {
		delete(tree, c.from)
	}
	if c.to != "" {
		tree[c.to] = c.node
	}
}

type simLock struct {
	sim  *Sim
	name string
	held int
	once sync.Once
}

func (l *simLock) Close() error {
	l.once.Do(func() {
		l.sim.mu.Lock()
		defer l.sim.mu.Unlock()
		l.sim.locks[l.name] -= l.held
	})
	return nil
}

var _ FS = (*Sim)(nil)

// String describes the disk in one line, for a failing test.
func (s *Sim) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("simulated disk: %d files, %d bytes, %d operations, power cut at %d", len(s.current), s.used, s.operations, s.cutAt)
}
