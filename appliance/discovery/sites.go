package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
)

const (
	// refreshEvery is how often a site is listed when nothing nudges: events make
	// changes visible at once where a provider has them.
	refreshEvery = 30 * time.Second
	// contactLimit bounds one listing of a site.
	contactLimit = 20 * time.Second
	// settleEvery is how often is looked for what a process that died left under way in
	// machines: a guest may stand still because of it. It costs little.
	settleEvery = 5 * time.Second
	// settleLimit bounds one such look: an agent that does not answer takes 3 s of it, a
	// QEMU that hangs 30 s.
	settleLimit = time.Minute
)

// OpenFunc connects to a site. The appliance gives one that knows all kinds.
type OpenFunc func(ctx context.Context, site store.Site) (hypervisor.Provider, error)

// Sites are the configured sites. The zero value is not usable; call New.
type Sites struct {
	store *store.Store
	open  OpenFunc
	log   *slog.Logger
	// Changed, if set before Run, is told when a machine of a site changed.
	Changed func(site string, ref hypervisor.Ref)

	mu   sync.Mutex // guards seen
	seen map[string]*site
	wake chan struct{}
}

// site is one open or failing site. Its fields are guarded by Sites.mu.
type site struct {
	record   store.Site
	provider hypervisor.Provider
	problem  *replication.Problem
	listed   time.Time
	machines []hypervisor.Machine
	networks []hypervisor.Network
}

// Seen is a site and its machines as last listed.
type Seen struct {
	Site     store.Site
	About    hypervisor.Description
	Listed   time.Time
	Machines []hypervisor.Machine
	Networks []hypervisor.Network
	Problem  *replication.Problem
}

// New makes the registry; Run contacts the sites.
func New(st *store.Store, open OpenFunc, log *slog.Logger) *Sites {
	return &Sites{store: st, open: open, log: log, seen: map[string]*site{}, wake: make(chan struct{}, 1)}
}

// Run connects to the configured sites, lists and watches them until ctx ends.
func (s *Sites) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	watched := map[string]bool{}
	contacted := make(chan struct{})
	group.Go(func() error {
		select {
		case <-contacted:
		case <-ctx.Done():
			return ctx.Err()
		}
		return s.settle(ctx)
	})
	group.Go(func() error {
		tick := time.NewTicker(refreshEvery)
		defer tick.Stop()
		for first := true; ; first = false {
			if err := s.Refresh(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("sites are not all reachable", "error", err)
			}
			if first {
				close(contacted)
			}
			for name, p := range s.providers() {
				w, ok := p.(hypervisor.Watcher)
				if !ok || watched[name] {
					continue
				}
				watched[name] = true
				group.Go(func() error { s.watch(ctx, name, w); return nil })
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			case <-s.wake:
			}
		}
	})
	return group.Wait()
}

// settle ends what a process that died left under way in machines, soon after the sites
// were contacted and again and again. This appliance takes the points of its sites, and
// works with one provider of each: [Sites.Check] opens another and must not come here. No
// site waits for another one, and one that cannot be reached is left to [Sites.Refresh].
func (s *Sites) settle(ctx context.Context) error {
	type settled struct {
		site string
		err  error
	}
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	done := make(chan settled)
	looking := map[string]bool{} // by site
	said := map[string]string{}  // by site, the code of what failed: it is told once
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		for name, p := range s.reachable() {
			settler, ok := p.(hypervisor.Settler)
			if !ok || looking[name] {
				continue
			}
			looking[name] = true
			wait.Go(func() {
				limited, cancel := context.WithTimeout(ctx, settleLimit)
				defer cancel()
				err := settler.Settle(limited)
				select {
				case done <- settled{name, err}:
				case <-ctx.Done():
				}
			})
		}
		for waiting := true; waiting; {
			select {
			case d := <-done:
				delete(looking, d.site)
				if d.err == nil {
					delete(said, d.site)
				} else if code := replication.AsProblem(d.err).Code; ctx.Err() == nil && said[d.site] != code {
					said[d.site] = code
					s.log.Warn("what an earlier run left in a machine is not ended yet", "site", d.site, "error", d.err)
				}
			case <-tick.C:
				waiting = false
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// reachable are the providers of the sites that answered when they were listed last.
func (s *Sites) reachable() map[string]hypervisor.Provider {
	s.mu.Lock()
	defer s.mu.Unlock()
	answered := map[string]hypervisor.Provider{}
	for name, k := range s.seen {
		if k.provider != nil && k.problem == nil {
			answered[name] = k.provider
		}
	}
	return answered
}

// watch listens to one provider and lists the site again after each change. A
// lost connection is taken up again by the next refresh.
func (s *Sites) watch(ctx context.Context, name string, w hypervisor.Watcher) {
	for ctx.Err() == nil {
		err := w.Watch(ctx, func(ref hypervisor.Ref) {
			s.Nudge()
			if s.Changed != nil {
				s.Changed(name, ref)
			}
		})
		if ctx.Err() != nil {
			return
		}
		s.log.Debug("watch of a site ended", "site", name, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(refreshEvery):
		}
		// The site may have been opened again meanwhile.
		if now, ok := s.providers()[name].(hypervisor.Watcher); ok {
			w = now
		}
	}
}

// Nudge makes Run list the sites again soon.
func (s *Sites) Nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Refresh lists all sites now. The error names those that could not be listed.
func (s *Sites) Refresh(ctx context.Context) error {
	var records []store.Site
	err := s.store.View(func(tx *store.Tx) error {
		for record, err := range tx.Sites().All() {
			if err != nil {
				return err
			}
			records = append(records, record)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read sites: %w", err)
	}
	s.forgetOthers(records)
	var wg sync.WaitGroup
	errs := make([]error, len(records))
	for i, record := range records {
		wg.Go(func() { errs[i] = s.refreshOne(ctx, record) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Sites) refreshOne(ctx context.Context, record store.Site) error {
	ctx, cancel := context.WithTimeout(ctx, contactLimit)
	defer cancel()
	p, err := s.connect(ctx, record)
	var machines []hypervisor.Machine
	var networks []hypervisor.Network
	if err == nil {
		if machines, err = p.Discover(ctx); err == nil {
			networks, err = p.Networks(ctx)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.seen[record.Name]
	if now == nil {
		return nil // removed meanwhile
	}
	now.problem = replication.AsProblem(err)
	if err != nil {
		return fmt.Errorf("site %s: %w", record.Name, err)
	}
	now.machines, now.networks, now.listed = machines, networks, time.Now()
	return nil
}

// connect gives the open provider of a site, opening it if need be.
func (s *Sites) connect(ctx context.Context, record store.Site) (hypervisor.Provider, error) {
	s.mu.Lock()
	known := s.seen[record.Name]
	if known == nil {
		known = &site{record: record}
		s.seen[record.Name] = known
	}
	p := known.provider
	s.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := s.open(ctx, record)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		known.problem = replication.AsProblem(err)
		return nil, err
	}
	if known.provider != nil { // somebody else was quicker
		p.Close()
		return known.provider, nil
	}
	known.provider, known.problem = p, nil
	return p, nil
}

// Provider gives the provider of a configured site.
func (s *Sites) Provider(name string) (hypervisor.Provider, error) {
	s.mu.Lock()
	var open hypervisor.Provider
	if known := s.seen[name]; known != nil {
		open = known.provider
	}
	s.mu.Unlock()
	if open != nil {
		return open, nil
	}
	var record store.Site
	err := s.store.View(func(tx *store.Tx) (err error) {
		record, err = tx.Sites().Get(name)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, &replication.Problem{Code: "site.unknown", Cause: fmt.Sprintf("there is no site %q", name),
			Action: "add it under Infrastructure, or choose another", Remedy: replication.Stop, Err: err}
	}
	if err != nil {
		return nil, err
	}
	// Its own deadline: callers hold no context of the site's, and the connection
	// outlives their request.
	ctx, cancel := context.WithTimeout(context.Background(), contactLimit)
	defer cancel()
	return s.connect(ctx, record)
}

// Reopen ends the connection to a site, so that the next contact is made by its record
// as it is now.
func (s *Sites) Reopen(record store.Site) {
	var old hypervisor.Provider
	s.mu.Lock()
	if known := s.seen[record.Name]; known != nil {
		old, known.provider, known.record = known.provider, nil, record
	}
	s.mu.Unlock()
	if old != nil {
		if err := old.Close(); err != nil {
			s.log.Warn("a site was left before it came to rest", "site", record.Name, "error", err)
		}
	}
	s.Nudge()
}

// Check contacts a site that is not configured yet and lists it.
func (s *Sites) Check(ctx context.Context, record store.Site) error {
	ctx, cancel := context.WithTimeout(ctx, contactLimit)
	defer cancel()
	p, err := s.open(ctx, record)
	if err != nil {
		return err
	}
	_, err = p.Discover(ctx)
	return errors.Join(err, p.Close())
}

// Seen gives all sites as last listed, by name.
func (s *Sites) Seen() []Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Seen
	for _, name := range slices.Sorted(maps.Keys(s.seen)) {
		k := s.seen[name]
		seen := Seen{Site: k.record, Listed: k.listed, Problem: k.problem,
			Machines: slices.Clone(k.machines), Networks: slices.Clone(k.networks)}
		if k.provider != nil {
			seen.About = k.provider.Describe()
		} else {
			seen.About = hypervisor.Description{Kind: k.record.Kind, Address: k.record.Address}
		}
		seen.Site.Contacted, seen.Site.Reachable = k.listed, k.problem == nil && !k.listed.IsZero()
		if k.problem != nil {
			seen.Site.Problem = &store.Finding{Code: k.problem.Code, Level: string(store.Warning), Cause: k.problem.Cause, Effect: k.problem.Effect, Action: k.problem.Action}
		}
		all = append(all, seen)
	}
	return all
}

func (s *Sites) providers() map[string]hypervisor.Provider {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := map[string]hypervisor.Provider{}
	for name, k := range s.seen {
		if k.provider != nil {
			open[name] = k.provider
		}
	}
	return open
}

// forgetOthers closes sites that are configured no more.
func (s *Sites) forgetOthers(records []store.Site) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, k := range s.seen {
		if slices.ContainsFunc(records, func(r store.Site) bool { return r.Name == name }) {
			continue
		}
		if k.provider != nil {
			k.provider.Close()
		}
		delete(s.seen, name)
	}
}

// Close releases the connections. It is called when nothing works with them any
// more: a cycle that was cut off still rolls back through its provider.
func (s *Sites) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, k := range s.seen {
		if k.provider != nil {
			errs = append(errs, k.provider.Close())
			k.provider = nil
		}
	}
	return errors.Join(errs...)
}
