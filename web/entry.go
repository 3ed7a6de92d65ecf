package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// minPassword is what the pages tell a browser; the identity decides.
const minPassword = 12

// setup is the page that claims a fresh appliance.
func (k *Console) setup(w http.ResponseWriter, r *http.Request) {
	if claimed, err := k.Identity.Claimed(); err != nil || claimed {
		next := "/"
		if user := userOf(r); err == nil && user != nil && user.Role == store.Administrator {
			next = k.unfinished(r)
		}
		k.onward(w, r, next, err)
		return
	}
	v := k.visitOf(r)
	k.entry(w, v, 0, v.words.T("setup.title"), view.SetupPage(k.setupForm(v, r.FormValue("token"), "", nil)))
}

func (k *Console) setupForm(v visit, token, name string, err error) view.Setup {
	s := view.Setup{Token: token, Name: name, MinLength: strconv.Itoa(minPassword)}
	for _, l := range view.Languages {
		s.Languages = append(s.Languages, view.Choice{Value: l, Text: view.LanguageName(l), Selected: l == v.words.Lang()})
	}
	if err != nil {
		m := messageOf(v.words, replication.AsProblem(err))
		s.Problem = &m
	}
	return s
}

// claim makes the administrator and signs them in.
func (k *Console) claim(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	token, name, password, language := r.PostFormValue("token"), r.PostFormValue("name"), r.PostFormValue("password"), r.PostFormValue("language")
	err := mismatch(password, r.PostFormValue("again"))
	if err == nil {
		_, err = k.Identity.Claim(r.Context(), token, name, password, k.catalog.Match(language), addressOf(r))
	}
	if err != nil {
		k.entry(w, v, entryStatus(w, err), v.words.T("setup.title"), view.SetupPage(k.setupForm(v, token, name, err)))
		return
	}
	k.enter(w, r, name, k.unfinished(r))
}

// unfinished is the step at which the setup goes on, or the overview when it is done or
// machines are protected already.
func (k *Console) unfinished(r *http.Request) string {
	s, err := k.Appliance.Setup(r.Context())
	rec, recErr := k.records()
	if err != nil || recErr != nil || !s.Progress.Finished.IsZero() || len(rec.machines) > 0 {
		return "/"
	}
	return "/setup/" + firstOpen(s)
}

func mismatch(password, again string) error {
	if password == again {
		return nil
	}
	return &replication.Problem{Code: "password.different", Cause: "the two passwords differ", Action: "type both again", Remedy: replication.Stop}
}

// login is the page to sign in.
func (k *Console) login(w http.ResponseWriter, r *http.Request) {
	claimed, err := k.Identity.Claimed()
	switch {
	case err != nil || !claimed:
		k.onward(w, r, "/setup", err)
		return
	case userOf(r) != nil:
		k.onward(w, r, local(r.FormValue("next")), nil)
		return
	}
	label, err := k.openIDLabel()
	if err != nil {
		k.fail(w, r, err)
		return
	}
	v := k.visitOf(r)
	k.entry(w, v, 0, v.words.T("login.title"), view.LoginPage(view.Login{Next: local(r.FormValue("next")), Service: label}))
}

// signIn checks the password. The session gets a new name, so that a cookie which
// somebody planted before is worth nothing.
func (k *Console) signIn(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	name, next := r.PostFormValue("name"), local(r.PostFormValue("next"))
	user, err := k.Identity.Login(r.Context(), name, r.PostFormValue("password"), addressOf(r))
	if err != nil {
		if known, err := k.Identity.User(name); err == nil {
			api.AuditOf(r.Context()).Object = known.Name
		}
		label, failed := k.openIDLabel()
		if failed != nil {
			k.Logger.Error("the sign-in services cannot be read", "error", failed)
		}
		k.entry(w, v, k.signInStatus(w, err), v.words.T("login.title"), view.LoginPage(view.Login{Name: name, Next: next, Problem: k.problem(v, err), Service: label}))
		return
	}
	if err := k.Identity.SweepSessions(); err != nil {
		k.Logger.Error("old sessions were not removed", "error", err)
	}
	if user.Second != nil {
		api.AuditOf(r.Context()).Object = user.Name
		k.await(w, r, user.Name, next)
		return
	}
	k.enter(w, r, user.Name, next)
}

// maxAgent bounds what is kept of what a browser says of itself.
const maxAgent = 200

// enter begins a session and goes on.
func (k *Console) enter(w http.ResponseWriter, r *http.Request, name, next string) {
	sessions := k.Identity.Sessions()
	if err := sessions.Clear(r.Context()); err != nil {
		k.fail(w, r, err)
		return
	}
	if err := sessions.RenewToken(r.Context()); err != nil {
		k.fail(w, r, err)
		return
	}
	sessions.Put(r.Context(), sessionUser, name)
	sessions.Put(r.Context(), sessionAddress, addressOf(r))
	sessions.Put(r.Context(), sessionAgent, strings.ToValidUTF8(r.UserAgent()[:min(len(r.UserAgent()), maxAgent)], ""))
	sessions.Put(r.Context(), sessionBegan, k.Now().UTC().Format(time.RFC3339))
	api.AuditOf(r.Context()).Actor = name
	k.back(w, r, next)
}

// signOut ends the session; its sockets end with it.
func (k *Console) signOut(w http.ResponseWriter, r *http.Request) {
	k.onward(w, r, "/login", k.Identity.Sessions().Destroy(r.Context()))
}

// preferences keeps the theme in a cookie and the language with the account, or in
// a cookie while there is none.
func (k *Console) preferences(w http.ResponseWriter, r *http.Request) {
	keep := func(name, value string) {
		http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
	}
	if theme := r.PostFormValue("theme"); theme == "light" || theme == "dark" || theme == "auto" {
		keep("theme", theme)
	}
	var err error
	if language := r.PostFormValue("language"); language != "" {
		language = k.catalog.Match(language)
		keep("language", language)
		if user := userOf(r); user != nil {
			err = k.Identity.SetLanguage(user.Name, language)
		}
	}
	k.onward(w, r, local(r.PostFormValue("next")), err)
}

// onward goes to the next page, or says what went wrong.
func (k *Console) onward(w http.ResponseWriter, r *http.Request, next string, err error) {
	if err != nil {
		k.fail(w, r, err)
		return
	}
	k.back(w, r, next)
}
