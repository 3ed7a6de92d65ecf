package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/a-h/templ"

	"riparo/replication"
	"riparo/store"
	"riparo/web/view"
)

// visit is a look at a page: what is asked for, by whom, in which language.
type visit struct {
	ctx   context.Context
	id    string // the {id} or {name} of the address
	path  string
	query url.Values
	user  *store.User // nil: nobody is signed in
	words *view.Words
	zone  string
	theme string
	now   time.Time
	fresh time.Time // what was read after this instant is new enough; zero: read it now
}

// may reports whether the visitor may use a route.
func (v visit) may(pattern string) bool {
	return v.user != nil && may(v.user.Role, table[pattern])
}

// page is something to look at. It builds the whole page; a live one is built
// again when something changed.
type page struct {
	pattern string
	build   func(k *Console, v visit) (built, error)
}

// built is a page ready to be printed.
type built struct {
	title  string
	place  string // in the navigation
	status int    // 0 is 200
	body   templ.Component

	// A live page tells what changes concern it and which of its parts have an id
	// of their own. When the shape is another one than before, the whole page is
	// sent instead.
	live  bool
	on    []string // prefixes of changes: "machine/", "job/", "event", "site/"
	parts []part
	shape string
}

// part is a fragment that can be freshened by itself.
type part struct {
	id   string
	body templ.Component
}

type userKey struct{}

func withUser(ctx context.Context, user *store.User) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

func userOf(r *http.Request) *store.User {
	user, _ := r.Context().Value(userKey{}).(*store.User)
	return user
}

// visitOf reads who looks at what.
func (k *Console) visitOf(r *http.Request) visit {
	v := visit{ctx: r.Context(), path: r.URL.RequestURI(), query: r.URL.Query(), user: userOf(r), now: k.Now()}
	if v.id = r.PathValue("id"); v.id == "" {
		v.id = r.PathValue("name")
	}
	var zone *time.Location
	if c, err := r.Cookie("zone"); err == nil && len(c.Value) < 64 {
		if name, err := url.QueryUnescape(c.Value); err == nil && name != "" && name != "Local" {
			if zone, err = time.LoadLocation(name); err == nil {
				v.zone = name
			}
		}
	}
	account, chosen := "", ""
	if v.user != nil {
		account = v.user.Language
	} else if c, err := r.Cookie("language"); err == nil {
		chosen = c.Value
	}
	v.words = k.catalog.Words(k.catalog.Match(account, chosen, r.Header.Get("Accept-Language")), zone)
	v.theme = "auto"
	if c, err := r.Cookie("theme"); err == nil && (c.Value == "light" || c.Value == "dark") {
		v.theme = c.Value
	}
	return v
}

// show builds a page and prints it.
func (k *Console) show(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := k.visitOf(r)
		b, err := p.build(k, v)
		if err != nil {
			k.fail(w, r, err)
			return
		}
		k.print(w, v, b)
	}
}

// print writes a page for somebody who is signed in.
func (k *Console) print(w http.ResponseWriter, v visit, b built) {
	shell, err := k.shell(v, b)
	if err != nil {
		k.Logger.Error("the navigation has no figures", "error", err)
	}
	k.write(w, v, b.status, view.Page(shell, b.body))
}

// entry writes a page for somebody who is not.
func (k *Console) entry(w http.ResponseWriter, v visit, status int, title string, body templ.Component) {
	k.write(w, v, status, view.Entry(k.frame(v, title), body))
}

// write prints a component as a whole or not at all.
func (k *Console) write(w http.ResponseWriter, v visit, status int, c templ.Component) {
	var page bytes.Buffer
	if err := c.Render(view.With(v.ctx, v.words), &page); err != nil {
		k.Logger.Error("a page was not printed", "path", v.path, "error", err)
		http.Error(w, v.words.T("problem.internal"), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(page.Len()))
	if status != 0 {
		w.WriteHeader(status)
	}
	w.Write(page.Bytes())
}

// frame is what stands around any page.
func (k *Console) frame(v visit, title string) view.Shell {
	path := v.path
	if !strings.HasPrefix(path, "/") {
		path = "/"
	}
	return view.Shell{Title: title, Theme: v.theme, Version: k.Version, Path: path, Now: v.now.UTC().Format(time.RFC3339Nano),
		Assets: view.Assets{Style: k.assets.Style, Script: k.assets.Script, Icon: k.assets.Icon}}
}

// shell is what stands around a page of the console.
func (k *Console) shell(v visit, b built) (view.Shell, error) {
	s := k.frame(v, b.title)
	s.Place, s.Live = b.place, b.live
	s.User, s.Role = v.user.Name, v.words.Named("role", string(v.user.Role))
	s.Initials = initials(v.user.Name)
	counts, err := k.counts(v)
	s.Groups = k.navigation(v, counts)
	return s, err
}

func initials(name string) string {
	var letters []rune
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == '.' || r == '-' || r == '_' || r == '@' }) {
		r, _ := utf8.DecodeRuneInString(word)
		if letters = append(letters, r); len(letters) == 2 {
			break
		}
	}
	return strings.ToUpper(string(letters))
}

// navigation lists the pages there are for the visitor.
func (k *Console) navigation(v visit, counts map[string]view.NavCount) []view.NavGroup {
	w := v.words
	item := func(place, href, icon string) view.NavItem {
		c := counts[place]
		c.Place = place
		return view.NavItem{Place: place, Href: href, Icon: icon, Text: w.T("nav." + place), Count: c}
	}
	groups := []view.NavGroup{
		{Title: w.T("nav.protection"), Items: []view.NavItem{
			item("overview", "/", "overview"), item("machines", "/machines", "machine"), item("policies", "/policies", "policy")}},
		{Title: w.T("nav.operations"), Items: []view.NavItem{
			item("jobs", "/jobs", "job"), item("alerts", "/alerts", "warn"), item("events", "/events", "event"), item("infrastructure", "/infrastructure", "infrastructure"), item("reports", "/reports", "report")}},
		{Title: w.T("nav.appliance"), Items: []view.NavItem{item("logs", "/logs", "log"), item("settings", "/settings", "settings")}},
	}
	if v.may("GET /audit") {
		groups[2].Items = append(groups[2].Items, item("audit", "/audit", "shield"))
	}
	if k.manual != nil {
		groups[2].Items = append(groups[2].Items, item("help", "/help", "help"))
	}
	return groups
}

// counts are the figures of the navigation: machines protected, jobs under way,
// machines that need attention.
func (k *Console) counts(v visit) (map[string]view.NavCount, error) {
	r, err := k.records()
	if err != nil {
		return nil, err
	}
	waiting, critical := 0, 0
	for _, j := range r.unfinished {
		if j.State == store.WaitingForInput {
			waiting++
		}
	}
	for _, m := range r.machines {
		if m.Health.Level == store.Critical {
			critical++
		}
	}
	figure := func(place string, n int, hot bool) view.NavCount {
		c := view.NavCount{Place: place, Hot: hot}
		if n > 0 {
			c.Text, c.Note = v.words.Int(int64(n)), v.words.T("nav.count-"+place)
		}
		return c
	}
	machines := figure("machines", len(r.machines), false)
	if critical > 0 {
		machines = figure("machines", critical, true)
		machines.Note = v.words.T("nav.count-critical")
	}
	alerts := 0
	err = k.Store.View(func(tx *store.Tx) (err error) {
		alerts, err = tx.ActiveAlerts().Count()
		return err
	})
	if err != nil {
		return nil, err
	}
	return map[string]view.NavCount{"alerts": figure("alerts", alerts, alerts > 0), "machines": machines, "jobs": figure("jobs", len(r.unfinished), waiting > 0)}, nil
}

// fail answers with a problem that came up on the way to a page.
func (k *Console) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	switch p := replication.AsProblem(err); {
	case isMissing(err):
		k.refuse(w, r, http.StatusNotFound, &replication.Problem{Code: "page.unknown", Cause: "there is nothing here (any more)",
			Action: "go back to the overview"})
	case p.Code == "internal":
		k.Logger.Error("a request went wrong", "method", r.Method, "path", r.URL.Path, "error", err)
		k.refuse(w, r, http.StatusInternalServerError, p)
	default:
		k.refuse(w, r, http.StatusConflict, p)
	}
}

// refuse prints a problem as a page.
func (k *Console) refuse(w http.ResponseWriter, r *http.Request, status int, p *replication.Problem) {
	v := k.visitOf(r)
	m := messageOf(v.words, p)
	title := v.words.T("problem.title")
	if v.user == nil || strings.HasPrefix(r.URL.Path, "/api/") {
		k.entry(w, v, status, title, view.ProblemPage(m, "/"))
		return
	}
	k.print(w, v, built{title: title, status: status, body: view.ProblemCard(m, "/")})
}

// unknown answers for an address without a page, or with another method.
func (k *Console) unknown(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	status := statusOf(handler, r)
	k.refuse(w, r, status, &replication.Problem{Code: "page.unknown", Cause: "there is nothing here (any more)", Action: "go back to the overview"})
}

// messageOf is a problem in the reader's language.
func messageOf(w *view.Words, p *replication.Problem) view.Message {
	return view.Message{Tone: view.Bad, Cause: sentence(w.Said(p.Cause)), Effect: sentence(w.Said(p.Effect)), Action: sentence(w.Said(p.Action))}
}

func isMissing(err error) bool { return errors.Is(err, store.ErrNotFound) }

// back sends a browser on after a form. Reloading the next page does not post again.
func (k *Console) back(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, path, http.StatusSeeOther)
}
