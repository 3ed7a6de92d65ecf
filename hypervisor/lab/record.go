package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a record.
const (
	// MaxEntries is how much one machine's record holds, over all branches:
	// 64 MiB of memory. At 1 MiB/s of churn that is four and a half hours. Then the
	// workload rests (the machine keeps serving), rather than doing what nobody
	// could judge.
	MaxEntries = 4 << 20
	// reserve is left to boots, clean marks and disk changes when it rests.
	reserve = 16 << 10
	// maxBranches bounds the boots of one machine; a branch number has 14 bits.
	maxBranches = 1<<14 - 1
	// maxDisks bounds the disks that one machine ever had.
	maxDisks = 200
)

// Record is the independent memory of what the workload of one machine wrote,
// wherever in the world it ran. Nothing that replicates disks ever sees it.
type Record struct {
	dir   string
	count atomic.Int64 // entries on all branches

	mu       sync.RWMutex // guards what follows
	identity identity
	branches []*branch // branch n is branches[n]; branch 0 is the machine as it was made
}

// identity is what a machine is wherever it runs.
type identity struct {
	Name    string         `json:"name"`
	Seed    uint64         `json:"seed"`
	Churn   int64          `json:"churn_bytes_per_second"`
	Created time.Time      `json:"created"`
	Disks   []diskIdentity `json:"disks"` // by number; a disk that comes later is appended
}

// diskIdentity is a disk as it was when it was new.
type diskIdentity struct {
	Key          string `json:"key"`
	Size         int64  `json:"size"`
	InitialBytes int64  `json:"initial_bytes"`
	// Original disks are there from the beginning; others since their entry.
	Original bool `json:"original"`
}

// id is the number in superblocks that tells machines of one name apart.
func (id identity) id() uint64 { return draw(id.Seed, 0x1d) }

// superblock is what disk number of the machine says in its first block after an
// entry at that place.
func (id identity) superblock(number uint8, at instant, clean bool) superblock {
	return superblock{
		Machine: id.Name, Identity: id.id(), Key: id.Disks[number].Key, Number: number,
		Branch: at.branch, Sequence: at.sequence, Clean: clean,
	}
}

// createRecord makes the record of a new machine.
func createRecord(dir string, id identity) (*Record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the record of %s: %w", id.Name, err)
	}
	r := &Record{dir: dir, identity: id}
	if err := r.addRoot(); err != nil {
		return nil, err
	}
	return r, writeJSON(filepath.Join(dir, "identity.json"), id)
}

// addRoot creates branch 0, which has no entries and gives branches a parent.
func (r *Record) addRoot() error {
	root := &branch{started: r.identity.Created}
	if err := os.Remove(branchFile(r.dir, 0)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("create the record of %s: %w", r.identity.Name, err)
	}
	if err := createBranch(r.dir, root); err != nil {
		return err
	}
	r.branches = []*branch{root}
	return nil
}

// openRecord reads the record of a machine back.
func openRecord(dir string) (*Record, error) {
	r := &Record{dir: dir}
	content, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err != nil {
		return nil, fmt.Errorf("open a lab record: %w", err)
	}
	if err := json.Unmarshal(content, &r.identity); err != nil {
		return nil, fmt.Errorf("open the lab record %s: %w", dir, err)
	}
	for number := uint32(0); ; number++ {
		path := branchFile(dir, number)
		b, err := openBranch(path)
		if errors.Is(err, os.ErrNotExist) {
			return r, nil
		}
		if errors.Is(err, errTornBranch) {
			// Only the last one can be torn, and nothing was written on it.
			if err := os.Remove(path); err != nil {
				return nil, errors.Join(fmt.Errorf("open the record of %s: %w", r.identity.Name, err), r.close())
			}
			return r, nil
		}
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		if b.number != number {
			return nil, errors.Join(fmt.Errorf("%s says that it is branch %d", path, b.number), b.file.Close(), r.close())
		}
		r.branches = append(r.branches, b)
		r.count.Add(int64(len(b.entries)))
	}
}

// Machine is the name of the machine whose record this is.
func (r *Record) Machine() string { return r.id().Name }

func (r *Record) id() identity {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.identity
}

// Entries is how many entries the record holds, of at most MaxEntries.
func (r *Record) Entries() int { return int(r.count.Load()) }

// full reports whether fewer than spare entries are left.
func (r *Record) full(spare int) bool { return r.Entries()+spare > MaxEntries }

// Branch is one life of the machine, as the record has it.
type Branch struct {
	Number         int
	Parent         int
	ParentSequence uint64 // where on the parent it begins
	Last           uint64 // its last sequence so far
	Site           string // where the machine ran
	Started        time.Time
}

// Branches lists the lives of the machine, oldest first. Branch 0 is the machine
// as it was made.
func (r *Record) Branches() []Branch {
	var out []Branch
	for _, l := range r.lives() {
		out = append(out, Branch{int(l.number), int(l.parent), l.parentSequence, l.end(), l.site, l.started})
	}
	return out
}

// lives is the record as it is now, for reading at leisure.
func (r *Record) lives() []life {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]life, len(r.branches))
	for i, b := range r.branches {
		out[i] = b.snapshot()
	}
	return out
}

// lineage is the path from the beginning to an instant: for each branch on it, in
// the order of life, the entries that belong to it.
func lineage(lives []life, to instant) ([]life, error) {
	var path []life
	for {
		if int(to.branch) >= len(lives) {
			return nil, fmt.Errorf("the record has no branch %d", to.branch)
		}
		l := lives[to.branch]
		if to.sequence > l.end() || to.sequence < l.parentSequence {
			return nil, fmt.Errorf("branch %d of the record has sequences %d to %d, not %d", to.branch, l.parentSequence, l.end(), to.sequence)
		}
		l.entries = l.entries[:to.sequence-l.parentSequence]
		path = append([]life{l}, path...)
		if to.branch == 0 {
			return path, nil
		}
		to = instant{l.parent, l.parentSequence}
	}
}

// sizes gives the disks of the machine at the end of a path: number and size by key.
func (id identity) sizes(path []life) map[string]diskAt {
	disks := map[string]diskAt{}
	for number, d := range id.Disks {
		if d.Original {
			disks[d.Key] = diskAt{uint8(number), d.Size}
		}
	}
	for _, l := range path {
		for _, e := range l.entries {
			if e.kind == added || e.kind == grown {
				disks[id.Disks[e.disk].Key] = diskAt{e.disk, int64(e.block) * BlockSize}
			}
		}
	}
	return disks
}

type diskAt struct {
	number uint8
	size   int64
}

// begin starts a new branch at an instant of an older one.
func (r *Record) begin(from instant, site string, now time.Time) (*branch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.branches) > maxBranches {
		return nil, fmt.Errorf("the record of %s is full: the machine booted %d times", r.identity.Name, maxBranches)
	}
	b := &branch{
		number: uint32(len(r.branches)), parent: from.branch, parentSequence: from.sequence,
		started: now, site: site,
	}
	if err := createBranch(r.dir, b); err != nil {
		return nil, err
	}
	r.branches = append(r.branches, b)
	return b, nil
}

// branch gives a branch to go on with, after a restart of the process.
func (r *Record) branch(number uint32) (*branch, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if number == 0 || int(number) >= len(r.branches) {
		return nil, false
	}
	return r.branches[number], true
}

// addDisk gives a new disk its number. The machine has it once an entry says so.
func (r *Record) addDisk(d diskIdentity) (uint8, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.identity.Disks) >= maxDisks {
		return 0, fmt.Errorf("the record of %s is full: the machine had %d disks", r.identity.Name, maxDisks)
	}
	next := r.identity
	next.Disks = append(append([]diskIdentity(nil), next.Disks...), d)
	if err := writeJSON(filepath.Join(r.dir, "identity.json"), next); err != nil {
		return 0, err
	}
	r.identity = next
	return uint8(len(next.Disks) - 1), nil
}

func (r *Record) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, b := range r.branches {
		errs = append(errs, b.file.Close())
	}
	r.branches = nil
	return errors.Join(errs...)
}
