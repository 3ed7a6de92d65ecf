package web

import (
	"context"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/view"
)

func pathSegment(s string) string { return url.PathEscape(s) }

func contextWithTimeout(r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), d)
}

// tokenLives are how long a token can be good for.
var tokenLives = []struct {
	key  string
	life time.Duration
}{{"90", 90 * 24 * time.Hour}, {"365", 365 * 24 * time.Hour}, {"7", 7 * 24 * time.Hour}, {"none", 0}}

// roles in the order in which they are offered.
var roles = []store.Role{store.Viewer, store.Auditor, store.Operator, store.RecoveryOperator, store.Administrator}

func (k *Console) settings(v visit) (built, error) {
	return k.settingsWith(v, func(*view.Settings) {})
}

// settingsWith builds the page with what a form has to say.
func (k *Console) settingsWith(v visit, say func(*view.Settings)) (built, error) {
	w := v.words
	s := view.Settings{Now: v.now, Name: v.user.Name, Role: w.Named("role", string(v.user.Role)), MinLength: strconv.Itoa(minPassword),
		Administrator: v.may("POST /settings/tokens"),
		About: []view.Fact{{Label: w.T("settings.version"), Value: k.Version}, {Label: w.T("settings.runs-on"), Value: runtime.GOOS + "/" + runtime.GOARCH},
			{Label: w.T("settings.clock"), Value: w.Time(v.now)}}}
	for _, l := range view.Languages {
		s.Languages = append(s.Languages, view.Choice{Value: l, Text: view.LanguageName(l), Selected: l == w.Lang()})
	}
	if s.Administrator {
		if err := k.accessSettings(v, &s); err != nil {
			return built{}, err
		}
	}
	say(&s)
	return built{title: w.T("settings.title"), place: "settings", body: view.SettingsPage(s)}, nil
}

func (k *Console) accessSettings(v visit, s *view.Settings) error {
	w := v.words
	for _, role := range roles {
		s.Roles = append(s.Roles, view.Choice{Value: string(role), Text: w.Named("role", string(role))})
	}
	for _, l := range tokenLives {
		s.Lives = append(s.Lives, view.Choice{Value: l.key, Text: w.T("tokens.life-" + l.key)})
	}
	tokens, err := k.Identity.Tokens()
	if err != nil {
		return err
	}
	for _, t := range tokens {
		row := view.TokenRow{ID: t.ID, Name: t.Name, Role: w.Named("role", string(t.Role)), Created: t.Created, Used: t.LastUsed, Expires: w.T("never")}
		if !t.Expires.IsZero() {
			row.Expires, row.Expired = w.Short(t.Expires, v.now), !v.now.Before(t.Expires)
		}
		s.Tokens = append(s.Tokens, row)
	}
	users, err := k.Identity.Users()
	for _, u := range users {
		s.Users = append(s.Users, view.UserRow{Name: u.Name, Role: w.Named("role", string(u.Role)), Login: u.LastLogin, Self: u.Name == v.user.Name})
	}
	return err
}

// showSettings prints the settings with the outcome of a form.
func (k *Console) showSettings(w http.ResponseWriter, r *http.Request, status int, say func(*view.Settings)) {
	v := k.visitOf(r)
	b, err := k.settingsWith(v, say)
	if err != nil {
		k.fail(w, r, err)
		return
	}
	b.status = status
	k.print(w, v, b)
}

func (k *Console) problem(v visit, err error) *view.Message {
	m := messageOf(v.words, replication.AsProblem(err))
	return &m
}

func (k *Console) changePassword(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	err := mismatch(r.PostFormValue("password"), r.PostFormValue("again"))
	if err == nil {
		err = k.Identity.ChangePassword(r.Context(), v.user.Name, r.PostFormValue("old"), r.PostFormValue("password"))
	}
	if err != nil {
		k.showSettings(w, r, http.StatusUnprocessableEntity, func(s *view.Settings) { s.Problem = k.problem(v, err) })
		return
	}
	// Whoever knew the old password is signed out everywhere else.
	sessions := k.Identity.Sessions()
	if err := k.Identity.EndSessions(v.user.Name, sessions.Token(r.Context())); err != nil {
		k.fail(w, r, err)
		return
	}
	if err := sessions.RenewToken(r.Context()); err != nil {
		k.fail(w, r, err)
		return
	}
	k.showSettings(w, r, 0, func(s *view.Settings) {
		s.Problem = &view.Message{Tone: view.OK, Cause: v.words.T("settings.changed"), Effect: v.words.T("settings.changed-text")}
	})
}

// makeToken shows the secret in the answer to the form: it is nowhere else.
func (k *Console) makeToken(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	life := tokenLives[0].life
	for _, l := range tokenLives {
		if l.key == r.PostFormValue("life") {
			life = l.life
		}
	}
	secret, _, err := k.Identity.CreateToken(v.user.Name, r.PostFormValue("name"), store.Role(r.PostFormValue("role")), life)
	if err != nil {
		k.showSettings(w, r, http.StatusUnprocessableEntity, func(s *view.Settings) { s.TokenProblem = k.problem(v, err) })
		return
	}
	k.showSettings(w, r, 0, func(s *view.Settings) { s.Secret = secret })
}

func (k *Console) revokeToken(w http.ResponseWriter, r *http.Request) {
	k.onward(w, r, "/settings#tokens", k.Identity.RevokeToken(userOf(r).Name, r.PathValue("id")))
}

func (k *Console) addUser(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	err := k.Identity.AddUser(r.Context(), v.user.Name, r.PostFormValue("name"), r.PostFormValue("password"), store.Role(r.PostFormValue("role")))
	if err != nil {
		k.showSettings(w, r, http.StatusUnprocessableEntity, func(s *view.Settings) { s.UserProblem = k.problem(v, err) })
		return
	}
	k.back(w, r, "/settings#users")
}

func (k *Console) removeUser(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	if err := k.Identity.RemoveUser(v.user.Name, r.PathValue("name")); err != nil {
		k.showSettings(w, r, http.StatusConflict, func(s *view.Settings) { s.UserProblem = k.problem(v, err) })
		return
	}
	k.back(w, r, "/settings#users")
}
