package web

import (
	"net/http"
	"time"

	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// tokenLives are how long a token can be good for.
var tokenLives = []struct {
	key  string
	life time.Duration
}{{"90", 90 * 24 * time.Hour}, {"365", 365 * 24 * time.Hour}, {"7", 7 * 24 * time.Hour}, {"none", 0}}

// tokens is the page of API tokens.
func (k *Console) tokens(v visit) (built, error) {
	return k.tokensWith(v, func(*view.Tokens) {})
}

func (k *Console) tokensWith(v visit, say func(*view.Tokens)) (built, error) {
	w := v.words
	s := view.Tokens{Now: v.now}
	for _, scope := range api.Scopes() {
		s.Scopes = append(s.Scopes, view.Choice{Value: string(scope), Text: w.Named("scope", string(scope)) + ": " + w.Named("scope", string(scope)+"-text")})
	}
	for _, l := range tokenLives {
		s.Lives = append(s.Lives, view.Choice{Value: l.key, Text: w.T("tokens.life-" + l.key)})
	}
	tokens, err := k.Identity.Tokens()
	if err != nil {
		return built{}, err
	}
	for _, t := range tokens {
		row := view.TokenRow{ID: t.ID, Name: t.Name, By: t.By, Scope: w.Named("scope", string(api.ScopeOf(t.Role))), Created: t.Created, Used: t.LastUsed, Expires: w.T("never")}
		if !t.Expires.IsZero() {
			row.Expires, row.Expired = w.Short(t.Expires, v.now), !v.now.Before(t.Expires)
		}
		s.Rows = append(s.Rows, row)
	}
	say(&s)
	return built{title: w.T("tokens.title"), place: "settings", body: view.TokensPage(s)}, nil
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
	var secret string
	var token store.Token
	role, err := api.Scope(r.PostFormValue("scope")).Role()
	if err == nil {
		secret, token, err = k.Identity.CreateToken(v.user.Name, r.PostFormValue("name"), role, life)
	}
	status, say := 0, func(s *view.Tokens) { s.Secret = secret }
	if err != nil {
		status, say = http.StatusUnprocessableEntity, func(s *view.Tokens) { s.Problem = k.problem(v, err) }
	} else {
		audited(r, token.ID, nil, map[string]any{"role": token.Role, "expires": token.Expires})
	}
	b, err := k.tokensWith(v, say)
	if err != nil {
		k.fail(w, r, err)
		return
	}
	b.status = status
	k.print(w, v, b)
}

func (k *Console) revokeToken(w http.ResponseWriter, r *http.Request) {
	k.onward(w, r, "/settings/tokens", k.Identity.RevokeToken(userOf(r).Name, r.PathValue("id")))
}
