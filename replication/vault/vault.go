package vault

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// Options say how a vault is opened.
type Options struct {
	Create   bool             // make the vault if there is none
	ReadOnly bool             // change nothing, not even to clean up after a crash
	Clock    func() time.Time // nil: time.Now
	// Keys open an encrypted vault, and make a new one encrypted. Without them an
	// encrypted vault can be opened for reading only, and no block of it be read. A
	// vault without encryption stays as it is.
	Keys Keys
	// Plain makes a new vault without encryption. It must be asked for: what makes a
	// vault says one or the other.
	Plain bool
	// Compression of new data; the zero value is LZ4.
	Compression Compression

	segmentBytes  int64                // 0: sealBytes. Tests seal earlier.
	memoryEntries int                  // 0: runEntries. Tests spill earlier.
	uptime        func() time.Duration // nil: of the machine
	randomness    io.Reader            // nil: of crypto/rand. Tests that are to go the same way again draw it from a seed.
	eager         bool                 // compaction takes any segment, one round at a time. Tests do.
	manual        bool                 // nothing happens in the background; tests call maintain
}

// Vault keeps protected disks and their recovery points in a folder. It is a
// [replication.Sink]. All methods may be called from several goroutines.
type Vault struct {
	fs      vfs.FS
	dir     string
	options Options
	lock    io.Closer
	id      vaultID
	session uint64 // counts the openings for writing
	sealed  bool   // the vault is encrypted
	codecs  uint32 // newest generation of the codecs of its blocks
	unnamed bool   // id is new, for want of any file that has the old one
	keys    *vaultKeys

	// Maintenance in the background; see background.go.
	work     chan struct{} // holds a token when something is due
	idle     chan struct{} // closed when the goroutines have ended; nil without any
	stop     context.CancelFunc
	due      sync.Mutex // guards dueDisks and wasteful
	dueDisks map[*disk]bool
	wasteful map[*disk]bool // may be worth a compaction
	waste    chan struct{}  // holds a token when one is

	traffic  atomic.Int64  // calls of senders under way; see scrub.go
	mapsMade atomic.Uint64 // map files in this session; see mapStamp
	scrub    scrub
	clock    trustedClock

	limits  atomic.Pointer[Limits] // nil: none
	filled  gauge                  // of the file system
	thin    chan struct{}          // holds a token when thinning is asked for
	reserve sync.Mutex             // guards the file of that name

	reviving sync.Mutex // held while a disk is opened once more; see roomless.go

	mu     sync.RWMutex // guards all below
	disks  map[replication.DiskID]*disk
	closed bool
}

var _ replication.Sink = (*Vault)(nil)

// Names in the folder of a vault.
const (
	headerName = "vault"
	lockName   = "lock"
	disksName  = "disks"
)

// Open opens the vault in the folder dir. What a crash left behind is put in order
// first: what was acknowledged is there, what was not may be. Errors are problems:
// vault.locked, vault.version, vault.missing, vault.damaged, vault.full,
// vault.key.missing, vault.key.wrong, vault.key.damaged.
func Open(ctx context.Context, fsys vfs.FS, dir string, o Options) (_ *Vault, err error) {
	v := &Vault{
		fs: fsys, dir: dir, options: o, disks: map[replication.DiskID]*disk{},
		work: make(chan struct{}, 1), dueDisks: map[*disk]bool{}, scrub: scrub{now: make(chan struct{}, 1), met: make(chan struct{}, 1)},
		waste: make(chan struct{}, 1), wasteful: map[*disk]bool{}, thin: make(chan struct{}, 1),
	}
	v.clock.vault = v
	v.options.segmentBytes = cmp.Or(o.segmentBytes, sealBytes)
	v.options.memoryEntries = cmp.Or(o.memoryEntries, runEntries)
	if o.Create && !o.ReadOnly {
		if err := v.makeFolder(dir); err != nil {
			return nil, fmt.Errorf("make vault %s: %w", dir, err)
		}
	}
	if info, err := fsys.Stat(dir); err != nil || !info.Dir {
		return nil, missingProblem(dir, err)
	}
	if !o.Create || o.ReadOnly {
		// A wrong path gets no lock file.
		if there, err := v.exists(); err != nil {
			return nil, fmt.Errorf("open vault %s: %w", dir, err)
		} else if !there {
			return nil, missingProblem(dir, nil)
		}
	}
	if err := v.takeLock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close())
			if list, ok := err.(interface{ Unwrap() []error }); ok && len(list.Unwrap()) == 1 {
				err = list.Unwrap()[0]
			}
		}
	}()
	fresh, err := v.readHeader()
	if err == nil && fresh && !o.ReadOnly {
		err = v.certainFolder()
	}
	if err != nil {
		return nil, err
	}
	err = v.openKeys(fresh)
	if err != nil && v.spend(err) {
		err = v.openKeys(fresh)
	}
	if err != nil {
		return nil, err
	}
	err = v.beginSession()
	if err != nil && v.spend(err) { // else nothing could be let go to make room
		err = v.beginSession()
	}
	if err != nil {
		return nil, err
	}
	if err := v.openDisks(ctx); err != nil {
		return nil, err
	}
	if err := v.clock.begin(); err != nil {
		return nil, err
	}
	if v.keys != nil && !o.ReadOnly {
		if err := v.finishRotation(); err != nil {
			return nil, fmt.Errorf("rotate the key of vault %s: %w", dir, err)
		}
	}
	if !o.ReadOnly && !o.manual {
		var run context.Context
		run, v.stop = context.WithCancel(context.WithoutCancel(ctx))
		v.idle = make(chan struct{})
		for _, d := range v.disks {
			if d.sick == nil {
				v.nudge(d)
			}
		}
		go v.background(run)
	}
	return v, nil
}

// Close ends the use of the vault, after the writes that are under way. Views stop
// working.
func (v *Vault) Close() error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil
	}
	v.closed = true
	disks := v.disks
	v.disks = map[replication.DiskID]*disk{}
	v.mu.Unlock()
	v.reviving.Lock() // what is being opened once more ends first
	defer v.reviving.Unlock()
	if v.idle != nil {
		v.stop()
		<-v.idle
	}
	var errs []error
	if v.clock.uptime != nil {
		errs = append(errs, v.clock.keep(true, true))
	}
	for _, d := range inOrder(disks) {
		errs = append(errs, d.close(closedProblem(v.dir)))
	}
	if v.lock != nil {
		errs = append(errs, v.lock.Close())
	}
	return errors.Join(errs...)
}

// inOrder gives disks by their names: what is done to all of them is done in the same
// order each time.
func inOrder(disks map[replication.DiskID]*disk) []*disk {
	list := make([]*disk, 0, len(disks))
	for _, id := range slices.Sorted(maps.Keys(disks)) {
		list = append(list, disks[id])
	}
	return list
}

func (v *Vault) takeLock() error {
	host, _ := os.Hostname() // for people only
	holder := fmt.Sprintf("process %d on %s since %s", os.Getpid(), cmp.Or(host, "this machine"), v.now().UTC().Format(time.RFC3339))
	lock, err := v.fs.Lock(filepath.Join(v.dir, lockName), holder, v.options.ReadOnly)
	if locked, ok := errors.AsType[*vfs.LockedError](err); ok {
		return lockedProblem(v.dir, locked)
	}
	if err != nil && v.options.ReadOnly && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		return nil // on a medium that cannot be written nobody writes
	}
	if err != nil {
		return fmt.Errorf("lock vault %s: %w", v.dir, err)
	}
	v.lock = lock
	return nil
}

// exists reports whether the folder holds a vault.
func (v *Vault) exists() (bool, error) {
	for _, name := range []string{headerName, disksName} {
		_, err := v.fs.Stat(filepath.Join(v.dir, name))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// openDisks opens every disk of the vault.
func (v *Vault) openDisks(ctx context.Context) error {
	folders, err := v.fs.ReadDir(filepath.Join(v.dir, disksName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list the disks of vault %s: %w", v.dir, err)
	}
	for _, folder := range folders {
		id, ok := diskOfFolder(folder.Name)
		if !ok || !folder.Dir {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		d := newDisk(v, id)
		if _, err := v.fs.Stat(filepath.Join(d.folder, erasedName)); err == nil {
			if !v.options.ReadOnly {
				// What cannot be removed now holds up nothing: the marker stays, and the next
				// opening tries again, as does who makes a disk of the name.
				_ = v.removeFolder(d.folder)
			}
			continue
		}
		v.disks[id] = d
		if err := v.openDisk(ctx, d); err != nil {
			d.sick = errors.Join(d.sick, fmt.Errorf("close disk %s: %w", id, err))
		}
		if d.sick == nil {
			continue
		}
		if version := (*versionError)(nil); errors.As(d.sick, &version) || ctx.Err() != nil {
			return d.sick
		}
		// One disk that cannot be opened does not take the others along.
	}
	return nil
}

// openDisk opens a disk, or remembers why that is not possible.
func (v *Vault) openDisk(ctx context.Context, d *disk) error {
	if d.sick = d.recover(ctx); d.sick == nil && d.serial > 0 {
		d.sick = d.keys.load(v.options.ReadOnly)
	}
	if d.sick == nil {
		return nil
	}
	d.noteRoom(d.sick)
	return d.forget()
}

// The folder of a disk has its name between a prefix and a suffix, because Windows
// reserves some names and does not see dots at the end.
const (
	diskPrefix = "disk-"
	diskSuffix = ".d"
)

func (v *Vault) diskFolder(id replication.DiskID) string {
	return filepath.Join(v.dir, disksName, diskPrefix+string(id)+diskSuffix)
}

func diskOfFolder(name string) (replication.DiskID, bool) {
	name, hasPrefix := strings.CutPrefix(name, diskPrefix)
	name, hasSuffix := strings.CutSuffix(name, diskSuffix)
	id := replication.DiskID(name)
	return id, hasPrefix && hasSuffix && id.Check() == nil
}

// find gives a disk that exists and could be opened.
func (v *Vault) find(id replication.DiskID) (*disk, error) {
	d, err := v.findAny(id)
	if err == nil && d.sick != nil {
		return nil, d.sick
	}
	return d, err
}

// findAny gives a disk that exists.
func (v *Vault) findAny(id replication.DiskID) (*disk, error) {
	v.mu.RLock()
	d, closed := v.disks[id], v.closed
	v.mu.RUnlock()
	if closed {
		return nil, closedProblem(v.dir)
	}
	if d == nil || !d.exists() {
		return nil, fmt.Errorf("disk %s: %w", id, replication.ErrUnknownDisk)
	}
	return d, nil
}

// findOrCreate gives a disk, new if need be. A new one exists when its first record
// is durable.
func (v *Vault) findOrCreate(id replication.DiskID) (*disk, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, closedProblem(v.dir)
	}
	if d := v.disks[id]; d != nil {
		return d, d.sick
	}
	for other := range v.disks {
		if strings.EqualFold(string(other), string(id)) {
			return nil, &replication.Problem{
				Code:   CodeDiskName,
				Cause:  fmt.Sprintf("the vault has a disk %s, and %s differs from it only by upper and lower case", other, id),
				Effect: "the disk was not added",
				Action: "give it another name",
				Remedy: replication.Stop,
			}
		}
	}
	d := newDisk(v, id)
	v.disks[id] = d
	return d, nil
}

func (v *Vault) writable() error {
	if v.options.ReadOnly {
		return readOnlyProblem(v.dir)
	}
	return nil
}

// random is where keys, nonces and names are drawn from.
func (v *Vault) random() io.Reader {
	if v.options.randomness != nil {
		return v.options.randomness
	}
	return rand.Reader
}

func (v *Vault) now() time.Time {
	if v.options.Clock != nil {
		return v.options.Clock()
	}
	return time.Now()
}
