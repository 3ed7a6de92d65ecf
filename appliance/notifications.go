package appliance

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"riparo/appliance/notify"
	"riparo/store"
	"riparo/web/api"
)

func (a *Appliance) openNotifier() error {
	secret, err := notify.OpenSecret(filepath.Join(a.config.Data, "pki", "settings.key"))
	if err != nil {
		return err
	}
	a.notifier, err = notify.New(notify.Config{Store: a.store, Log: a.part("notify"), Secret: secret, Look: a.look, Now: time.Now, RetryUnit: a.config.RetryUnit,
		Name: func() string { return a.general().Name }, URL: func() string { return a.URL }, Zone: a.zone, Proxy: a.proxy})
	return err
}

// look adds what is not in the store to what the rules of alerts look at.
func (a *Appliance) look(w *notify.World) {
	for _, s := range a.sites.Seen() {
		w.Sites = append(w.Sites, notify.Site{Name: s.Site.Name, Problem: s.Problem})
	}
	u := a.vault.Room()
	if w.Stored, w.Free = u.StoredBytes, u.FreeBytes; u.TotalBytes == 0 {
		w.Free = -1
	}
	w.Certificate = a.certificateEnd()
	w.Clock = a.clockProblem()
}

// general is what the appliance is called, and its clock.
func (a *Appliance) general() (g store.General) {
	err := a.store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingGeneral, &g)
		return err
	})
	if err != nil {
		a.log.Error("the name of the appliance cannot be read", "error", err)
	}
	return g
}

// zone is the time zone of the appliance.
func (a *Appliance) zone() *time.Location {
	if name := a.general().Zone; name != "" {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone
		}
	}
	return time.UTC
}

// proxy is the way to a web service outside.
func (a *Appliance) proxy(r *http.Request) (*url.URL, error) {
	p := store.Proxy{Mode: store.ProxySystem}
	err := a.store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingProxy, &p)
		return err
	})
	if err != nil {
		return nil, err
	}
	switch p.Mode {
	case store.ProxyNone:
		return nil, nil
	case store.ProxyCustom:
		c := httpproxy.Config{HTTPProxy: p.URL, HTTPSProxy: p.URL, NoProxy: p.Bypass}
		return c.ProxyFunc()(r.URL)
	}
	return http.ProxyFromEnvironment(r)
}

// Notifications says of what and how people are told.
func (a *Appliance) Notifications(context.Context) (api.Notifications, error) {
	return a.notifier.Shown()
}

// SaveNotifications changes that.
func (a *Appliance) SaveNotifications(_ context.Context, actor string, n api.Notifications) error {
	return a.notifier.Save(actor, n)
}

// TestNotification sends a message to one recipient now.
func (a *Appliance) TestNotification(ctx context.Context, _, recipient string) error {
	return a.notifier.Test(ctx, strings.TrimSpace(recipient))
}
