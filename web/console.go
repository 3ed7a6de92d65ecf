package web

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"riparo/store"
	"riparo/store/logs"
	"riparo/web/api"
	"riparo/web/asset"
	"riparo/web/view"
)

// Config is what a console is made of.
type Config struct {
	Store     *store.Store
	Appliance Appliance
	Identity  Identity
	Audit     AuditLog     // every change is written there before it is done
	Logger    *slog.Logger // nil: nothing is logged
	// Logs reads the log that the console shows, and Log is the one that is written
	// to; without it nothing is followed live and the level cannot be changed.
	Logs    *logs.Reader
	Log     *logs.Log
	Version string
	// Secrets, if set, gives those that are not in the store: they are not to be in a
	// support bundle either.
	Secrets func() []string
	// Trusted is true when the certificate is one that browsers accept. Only then
	// they are told to insist on TLS (HSTS): with our own certificate that would
	// lock people out who exchange it.
	Trusted bool
	// Docs is the manual, Markdown files beginning with index.md. Without it there
	// is no help page.
	Docs fs.FS
	// Licenses are the license texts of everything third-party that is linked.
	Licenses []License
	// Ready, if set, says what keeps the appliance from serving, for /readyz.
	Ready func(context.Context) error
	Now   func() time.Time // nil: time.Now
}

// Console serves pages, the API and the live socket. It is an [http.Handler] for
// a TLS listener: its cookies are for TLS only.
type Console struct {
	Config
	catalog  *view.Catalog
	assets   *asset.Set
	api      *api.API
	mux      *http.ServeMux
	routes   []string       // what is in the mux, without the API
	pages    *http.ServeMux // finds the page behind an address, see find
	origins  *http.CrossOriginProtection
	memory   memory
	glance   glance
	past     *api.Past
	rendered rendered
	feed     feed // of the store
	logFeed  feed // of the log
	manual   *manual
	keys     *keys
	crowd    strangers // who leave lines in the audit log

	// Sockets end with the console.
	ctx  context.Context
	stop context.CancelFunc
	open sync.WaitGroup
}

// New gives the console of an appliance. Call Close to end its sockets; nothing
// else runs by itself.
func New(c Config) (*Console, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logs == nil {
		c.Logs = logs.NewReader("")
	}
	k := &Console{Config: c, origins: http.NewCrossOriginProtection(), keys: newKeys()}
	var err error
	if k.catalog, err = view.Load(); err != nil {
		return nil, err
	}
	if k.assets, err = asset.Load(); err != nil {
		return nil, err
	}
	if k.manual, err = loadManual(c.Docs); err != nil {
		return nil, fmt.Errorf("read the manual: %w", err)
	}
	_, k.memory.changed, k.memory.cancel = c.Store.Subscribe()
	k.past = api.NewPast(c.Store)
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.feed.begin(k.ctx, c.Appliance.Subscribe)
	if c.Log != nil {
		k.logFeed.begin(k.ctx, func() (<-chan struct{}, func() []string, func()) {
			nudge, cancel := c.Log.Subscribe()
			return nudge, func() []string { return nil }, cancel
		})
	}
	k.rendered.pages = map[string]*renderedPage{}
	k.mux = http.NewServeMux()
	k.pages = http.NewServeMux()
	k.route()
	k.api = api.NewAPI(api.Config{Store: c.Store, Past: k.past, Appliance: c.Appliance, Identity: c.Identity, Audit: c.Audit, Version: c.Version, Now: c.Now, Logger: c.Logger, Logs: c.Logs, Log: c.Log, Support: k.supportParts, Bundled: k.bundled, Done: k.ctx.Done()})
	k.api.Register(k.mux)
	return k, nil
}

// Close ends all sockets and waits for them.
func (k *Console) Close() error {
	k.stop()
	k.open.Wait()
	k.feed.working.Wait()
	k.logFeed.working.Wait()
	k.memory.cancel()
	k.past.Close()
	return nil
}
