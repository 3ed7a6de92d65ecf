package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"riparo/appliance/audit"
	"riparo/appliance/backup"
	"riparo/appliance/certificate"
	"riparo/appliance/discovery"
	"riparo/appliance/docs"
	"riparo/appliance/identity"
	"riparo/appliance/jobs"
	"riparo/appliance/licenses"
	"riparo/appliance/notify"
	"riparo/appliance/protection"
	"riparo/appliance/recovery"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/mastertarget"
	"riparo/replication/vault"
	"riparo/replication/vfs"
	"riparo/store"
	"riparo/store/logs"
	"riparo/web"
)

// Config says where an appliance lives and how it listens.
type Config struct {
	// Data is the folder of everything the appliance keeps. It is made if missing.
	Data string
	// Listen is the address of the console and the API. Port 0 takes a free one.
	Listen string
	// Listener, if set, is listened on in place of Listen, and belongs to the appliance:
	// the one that an appliance that begins again has handed on.
	Listener net.Listener
	Version  string
	// Logs is what the appliance writes its log to and shows in its console. Without
	// it Log is written to, and the console shows what DATA/logs has.
	Logs *logs.Log
	Log  *slog.Logger // nil: nowhere
	// Vault, if set, is where the vault is from now on; else where the settings say.
	Vault string
	// RetryUnit is the minute of the retry schedule 1, 2, 4, 8, 10, 30; 0 is a real
	// minute. The demonstration and tests shorten it.
	RetryUnit time.Duration
	// StepsTwice and Committed are for tests: see [jobs.Options] and [store.Options].
	StepsTwice bool
	Committed  func(changed []string)
	// Limits bound the room of the vault; the zero value bounds nothing.
	Limits vault.Limits
	// Compression of new data in the vault; the zero value is LZ4.
	Compression vault.Compression
	// FS is where the vault is kept; nil is the file system. Tests have others.
	FS vfs.FS
	// Clock is what the vault takes for the clock; nil is the clock. Tests have others.
	Clock func() time.Time
	// Scrub is the budget of the vault's scrub; the zero value is a pass a week.
	Scrub vault.ScrubOptions
	// KeepBytes is how much a transfer passes before it keeps how far it came; 0 is
	// 256 MiB. Tests shorten it.
	KeepBytes int64
}

// Appliance is an open appliance.
type Appliance struct {
	config      Config
	log         *slog.Logger
	told        string // the newest event that is in the log; runStory's
	store       *store.Store
	machines    *store.Mirror[store.Machine, store.Machine] // for what looks at all of them
	vault       *vault.Vault
	target      *mastertarget.Target
	labMu       sync.Mutex // guards lab and labRuns
	labRuns     map[string]bool
	labSites    chan *lab.Site // opened and not yet running
	lab         *lab.World     // of sites of the kind lab; opened when the first one is
	sites       *discovery.Sites
	jobs        *jobs.Engine
	protect     *protection.Protector
	recover     *recovery.Recovery
	identity    *identity.Identity
	keeper      *backup.Keeper
	notifier    *notify.Notifier
	certificate *certificate.Keeper

	restart    chan struct{} // closed when Run is to return ErrRestart
	restarting sync.Once
	restoring  sync.Mutex // held while a backup is taken in or opened
	audit      *audit.Log

	listener net.Listener
	handedOn bool // the listener is another's now
	server   *http.Server
	console  *web.Console
	// URL is where the console is, and Fingerprint what its certificate has.
	URL         string
	Fingerprint string
	// SetupToken claims the appliance; empty once it is claimed.
	SetupToken string
}

// Open opens what the appliance keeps and listens. Nothing works until Run.
func Open(ctx context.Context, c Config) (*Appliance, error) {
	a := &Appliance{config: c, log: c.Log, listener: c.Listener, labRuns: map[string]bool{}, labSites: make(chan *lab.Site, maxLabSites), restart: make(chan struct{})}
	if c.Logs != nil {
		a.log = c.Logs.Logger
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if err := a.open(ctx); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Appliance) open(ctx context.Context) (err error) {
	if err := a.makeFolder(""); err != nil {
		return err
	}
	if restored, err := backup.Apply(a.config.Data); err != nil {
		return err
	} else if restored {
		a.part("backup").Info("the restored state is in place")
	}
	for _, dir := range []string{"run", "pki", "logs", protection.SeedsName} {
		if err := a.makeFolder(dir); err != nil {
			return err
		}
	}
	if a.store, err = store.Open(filepath.Join(a.config.Data, "state.db"), store.Options{Committed: a.config.Committed}); err != nil {
		return err
	}
	a.machines = store.NewMirror(a.store, store.Machines, store.Whole)
	if err := a.newestEvent(); err != nil {
		return err
	}
	if err := a.furnish(); err != nil {
		return err
	}
	if err := a.openVault(ctx); err != nil {
		return err
	}
	if a.target, err = mastertarget.New(a.vault, filepath.Join(a.config.Data, "run"), a.part("master target")); err != nil {
		return err
	}
	a.sites = discovery.New(a.store, a.connect, a.part("discovery"))
	a.protect = protection.New(protection.Config{Store: a.store, Sites: a.sites, Vault: a.vault, Log: a.part("protection"),
		RetryUnit: a.config.RetryUnit, KeepBytes: a.config.KeepBytes, Seeds: filepath.Join(a.config.Data, protection.SeedsName), Changed: func(what string) { a.store.Touch(what) }, Broken: a.restartLater})
	if err := a.limitVault(); err != nil {
		return err
	}
	a.recover = recovery.New(recovery.Config{Store: a.store, Sites: a.sites, Replication: a.protect, Vault: a.vault, Publisher: a.target, Log: a.part("recovery")})
	a.keeper = &backup.Keeper{Store: a.store, Data: a.config.Data, Version: a.config.Version, Log: a.part("backup"), Now: time.Now,
		Start: func(ctx context.Context, s jobs.Spec) (string, error) { return a.jobs.Start(ctx, s) }}
	all := append(append(a.protect.Jobs(), a.recover.Jobs()...), a.keeper.Job())
	if a.jobs, err = jobs.New(a.store, jobs.Options{Logger: a.part("jobs"), RetryUnit: a.config.RetryUnit, Twice: a.config.StepsTwice}, all...); err != nil {
		return err
	}
	if a.audit, err = audit.Open(a.store, audit.Options{KeyFile: filepath.Join(a.config.Data, "pki", "audit.key"), Logger: a.part("audit")}); err != nil {
		return err
	}
	if err := a.openNotifier(); err != nil {
		return err
	}
	if a.identity, err = identity.New(a.store, identity.Options{Logger: a.part("identity"), KeyFile: filepath.Join(a.config.Data, "pki", "identity.key"), Claimed: a.forgetSetupToken}); err != nil {
		return err
	}
	if err := a.offerSetup(); err != nil {
		return err
	}
	return a.listen()
}

// makeFolder makes a folder of the data folder; an empty name is the data folder.
func (a *Appliance) makeFolder(name string) error {
	if err := os.MkdirAll(filepath.Join(a.config.Data, name), 0o700); err != nil {
		return &replication.Problem{Code: "data.unusable", Cause: fmt.Sprintf("the data folder cannot be made: %v", err),
			Effect: "the appliance does not start", Action: "choose a folder that this user may write to with --data", Remedy: replication.Stop, Err: err}
	}
	return nil
}

// furnish puts into a fresh store what every appliance has.
func (a *Appliance) furnish() error {
	return a.store.Update(func(tx *store.Tx) error {
		standard := replication.DefaultPolicy()
		_, err := tx.Policies().Get(standard.Name)
		if errors.Is(err, store.ErrNotFound) {
			return tx.Policies().Put(store.Policy{Policy: standard})
		}
		return err
	})
}

// offerSetup makes the one-time token that claims the appliance, and keeps it in
// a file for whoever may read the data folder.
func (a *Appliance) offerSetup() error {
	path := filepath.Join(a.config.Data, "setup-token")
	kept, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the setup token: %w", err)
	}
	if a.SetupToken, err = a.identity.OfferSetup(string(kept)); err != nil {
		return err
	}
	if a.SetupToken == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the used setup token: %w", err)
		}
		return nil
	}
	if err := os.WriteFile(path, []byte(a.SetupToken+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the setup token: %w", err)
	}
	return nil
}

// forgetSetupToken removes the file of the token that has just been used.
func (a *Appliance) forgetSetupToken() {
	if err := os.Remove(filepath.Join(a.config.Data, "setup-token")); err != nil && !errors.Is(err, os.ErrNotExist) {
		a.log.Error("the used setup token is still in its file; it is good for nothing", "error", err)
	}
}

// Run works until ctx ends, or returns ErrRestart when the appliance is to be opened
// anew. Jobs and machines that a crash interrupted go on.
func (a *Appliance) Run(ctx context.Context) error {
	own := a.part("appliance")
	own.Info("the appliance starts", "version", a.config.Version, "listen", a.URL)
	defer own.Info("the appliance has stopped")
	if err := a.recover.Republish(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.target.Run(ctx) })
	group.Go(func() error { return a.recover.KeepPublished(ctx) })
	group.Go(func() error { return a.sites.Run(ctx) })
	group.Go(func() error { return a.runLab(ctx) })
	group.Go(func() error { return a.protect.Run(ctx) })
	group.Go(func() error { return a.vault.Scrub(ctx, a.config.Scrub) })
	group.Go(func() error { return a.expireApprovals(ctx) })
	group.Go(func() error { return a.watchClock(ctx) })
	group.Go(func() error { return a.jobs.Run(ctx) })
	group.Go(func() error { return a.watchOwnership(ctx) })
	group.Go(func() error { return a.keeper.Run(ctx) })
	group.Go(func() error { return a.notifier.Run(ctx) })
	group.Go(func() error { return a.awaitRestart(ctx) })
	group.Go(func() error { return a.runStory(ctx) })
	group.Go(func() error { return a.serve(ctx) })
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// shutdownLimit is how long requests under way may take when the daemon ends.
const shutdownLimit = 5 * time.Second

func (a *Appliance) serve(ctx context.Context) error {
	down := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(down)
		// Live sockets and event streams would outlast a shutdown that waits for them.
		if err := a.console.Close(); err != nil {
			a.part("appliance").Warn("the console did not close in order", "error", err)
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
		defer cancel()
		if err := a.server.Shutdown(bounded); err != nil {
			a.server.Close()
		}
	})
	defer stop()
	if err := a.server.ServeTLS(lasting{a.listener, a.restart}, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the console: %w", err)
	}
	<-down // requests under way still need what Close lets go of
	return ctx.Err()
}

// Close lets go of everything. It is safe on an appliance that Open left half
// open, and on one whose Run has returned.
func (a *Appliance) Close() error {
	var errs []error
	if a.listener != nil && !a.handedOn {
		if err := a.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.sites != nil {
		errs = append(errs, a.sites.Close())
	}
	if a.vault != nil {
		errs = append(errs, a.vault.Close())
	}
	if a.lab != nil {
		errs = append(errs, a.lab.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}

// handler is what answers on the TLS port.
func (a *Appliance) handler() (_ http.Handler, err error) {
	a.console, err = web.New(web.Config{Store: a.store, Appliance: a, Identity: a.identity, Audit: a.audit, Logger: a.part("console"), Logs: logs.NewReader(LogFolder(a.config.Data)), Log: a.config.Logs, Secrets: a.secrets, Version: a.config.Version, Docs: docs.Manual, Licenses: licensed()})
	return a.console, err
}

// licensed are the license texts that the console shows.
func licensed() (list []web.License) {
	for _, t := range licenses.All() {
		l := web.License{ID: t.ID, Kind: t.Kind, Body: t.Body}
		for _, of := range t.Of {
			l.Of = append(l.Of, web.Licensed(of))
		}
		list = append(list, l)
	}
	return list
}
