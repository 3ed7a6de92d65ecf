package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// World is a folder with several sites, and the records of all machines that ever
// ran there. A machine that fails over from one site to the other keeps its record.
type World struct {
	dir     string
	options Options
	lock    *os.File
	// life ends with Close; it carries what machines do by themselves.
	life context.Context
	end  context.CancelFunc

	mu    sync.Mutex // guards sites
	sites map[string]*Site

	recordsMu sync.Mutex // guards records
	records   map[string]*Record
}

// Options say how a lab behaves. The zero value is right for a demonstration.
type Options struct {
	// Name is the site that Open opens; "lab" when empty.
	Name string
	// Now is the clock of machines and records; time.Now when nil.
	Now func() time.Time
	// ScratchBytes bounds what one capture keeps of overwritten content.
	// DefaultScratchBytes when 0.
	ScratchBytes int64
}

// DefaultScratchBytes is what a capture may keep: enough for minutes of churn.
const DefaultScratchBytes = 1 << 30

// OpenWorld opens a lab world, or begins one in an empty or missing folder. Only
// one process can have it open.
func OpenWorld(dir string, options Options) (*World, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.ScratchBytes == 0 {
		options.ScratchBytes = DefaultScratchBytes
	}
	w := &World{dir: dir, options: options, sites: map[string]*Site{}, records: map[string]*Record{}}
	for _, path := range []string{filepath.Join(dir, "records"), filepath.Join(dir, "sites")} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("open the lab: %w", err)
		}
	}
	var err error
	if w.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("open the lab: %w", err)
	}
	switch locked, err := tryLock(w.lock); {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock the lab %s: %w", dir, err), w.lock.Close())
	case !locked:
		return nil, errors.Join(&replication.Problem{
			Code: "lab.locked", Cause: fmt.Sprintf("the lab %s is in use by another process", dir),
			Effect: "it was not opened", Action: "end the other process, or choose another folder", Remedy: replication.Stop,
		}, w.lock.Close())
	}
	w.life, w.end = context.WithCancel(context.Background())
	records, err := os.ReadDir(filepath.Join(dir, "records"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the lab: %w", err), w.Close())
	}
	for _, f := range records {
		folder := filepath.Join(dir, "records", f.Name())
		if _, err := os.Stat(filepath.Join(folder, "identity.json")); errors.Is(err, os.ErrNotExist) {
			if err := os.RemoveAll(folder); err != nil { // its machine was never finished
				return nil, errors.Join(fmt.Errorf("open the lab: %w", err), w.Close())
			}
			continue
		}
		r, err := openRecord(folder)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.records[r.Machine()] = r
	}
	return w, nil
}

// Open opens one site in a folder of its own.
func Open(dir string, options Options) (*Site, error) {
	if options.Name == "" {
		options.Name = "lab"
	}
	w, err := OpenWorld(dir, options)
	if err != nil {
		return nil, err
	}
	s, err := w.Site(options.Name)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	s.owns = true
	return s, nil
}

// Site opens a site of the world, or begins it. The same name gives the same Site.
func (w *World) Site(name string) (*Site, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("lab site: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.sites[name]; ok && !s.isClosed() {
		return s, nil
	}
	s, err := openSite(w, name, filepath.Join(w.dir, "sites", name))
	if err != nil {
		return nil, err
	}
	w.sites[name] = s
	return s, nil
}

func (s *Site) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Record is the record of a machine, by the name it was made with.
func (w *World) Record(machine string) (*Record, error) {
	w.recordsMu.Lock()
	defer w.recordsMu.Unlock()
	r, ok := w.records[machine]
	if !ok {
		return nil, fmt.Errorf("the lab has no record of a machine %q", machine)
	}
	return r, nil
}

// Close closes all sites. Machines go on when the world is opened again.
func (w *World) Close() error {
	w.mu.Lock()
	sites := w.sites
	w.end()
	w.sites = map[string]*Site{}
	w.mu.Unlock()
	var errs []error
	for _, s := range sites {
		errs = append(errs, s.closeMachines())
	}
	w.recordsMu.Lock()
	defer w.recordsMu.Unlock()
	for _, r := range w.records {
		errs = append(errs, r.close())
	}
	w.records = map[string]*Record{}
	return errors.Join(append(errs, w.lock.Close())...)
}

// checkName allows what can name a folder everywhere: 1 to 63 letters, digits,
// hyphens, underscores and dots, beginning with a letter or digit.
func checkName(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if name == "" || len(name) > 63 || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) || strings.ContainsRune("-_.", rune(name[0])) {
		return fmt.Errorf("name %q: want 1 to 63 letters, digits, '.', '-' and '_', beginning with a letter or digit", name)
	}
	return nil
}

// Copy is a machine that runs an identity.
type Copy struct {
	Site     string
	Ref      hypervisor.Ref
	Isolated bool // nothing outside of its network can reach it
}

// Copies tells where an identity runs and serves right now. More than one copy
// that is not isolated is what disaster recovery must never bring about.
func (w *World) Copies(machine string) []Copy {
	w.mu.Lock()
	sites := slices.Collect(maps.Values(w.sites))
	w.mu.Unlock()
	var out []Copy
	for _, s := range sites {
		for _, m := range s.all() {
			d := m.definition()
			if d.Identity != machine {
				continue
			}
			connected := slices.ContainsFunc(d.NICs, func(n hypervisor.NIC) bool { return n.Network == Production })
			out = append(out, Copy{s.name, m.ref, !connected})
		}
	}
	slices.SortFunc(out, func(a, b Copy) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Ref, b.Ref))
	})
	return out
}
