package web

import (
	"context"
	"net/http"
	"net/url"
	"runtime"
	"time"

	"riparo/replication"
	"riparo/web/view"
)

func pathSegment(s string) string { return url.PathEscape(s) }

func contextWithTimeout(r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), d)
}

// doors are the pages of settings, each for those who may use it.
var doors = []struct{ name, pattern, icon string }{
	{"account", "GET /account", "user"}, {"users", "GET /settings/users", "lock"}, {"signon", "GET /settings/sign-in", "network"}, {"tokens", "GET /settings/tokens", "key"}, {"audit", "GET /audit", "shield"},
	{"appliance", "GET /settings/appliance", "machine"}, {"certificate", "GET /settings/certificate", "lock"}, {"notifications", "GET /settings/notifications", "event"}, {"backup", "GET /settings/backup", "disk"}, {"about", "GET /settings/about", "info"},
}

// settings is the page that leads to all settings.
func (k *Console) settings(v visit) (built, error) {
	w := v.words
	s := view.Settings{Now: v.now,
		About: []view.Fact{{Label: w.T("settings.version"), Value: k.Version}, {Label: w.T("settings.runs-on"), Value: runtime.GOOS + "/" + runtime.GOARCH},
			{Label: w.T("settings.clock"), Value: w.Time(v.now)}}}
	for _, d := range doors {
		if !v.may(d.pattern) {
			continue
		}
		s.Doors = append(s.Doors, view.Door{Href: d.pattern[len("GET "):], Icon: d.icon, Title: w.Named("door", d.name), Text: w.Named("door", d.name+"-text")})
	}
	return built{title: w.T("settings.title"), place: "settings", body: view.SettingsPage(s)}, nil
}

// problem is an error as a message on a page.
func (k *Console) problem(v visit, err error) *view.Message {
	m := messageOf(v.words, replication.AsProblem(err))
	return &m
}
