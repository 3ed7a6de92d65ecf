package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// OpenIDPath is where the service sends people back to.
const OpenIDPath = "/login/openid/callback"

const (
	// openIDTime is how long somebody may take at the service.
	openIDTime = 10 * time.Minute
	// maxServiceAnswer bounds an answer of the service: keys and claims.
	maxServiceAnswer = 1 << 20
	openIDPurpose    = "a sign-in by OpenID Connect that is under way"
)

// openIDs keeps what was learned of the service, so that it is not asked for its
// description at each sign-in.
type openIDs struct {
	mu       sync.Mutex // guards the rest; held while the service is asked for its description
	of       string     // the settings it is for
	provider *oidc.Provider
	client   *http.Client
}

// flow is what a browser carries, sealed, while its person is at the service.
type flow struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Next     string    `json:"next"`
	Until    time.Time `json:"until"`
}

// SaveOpenID keeps how people sign in with OpenID Connect, when that works.
func (i *Identity) SaveOpenID(ctx context.Context, actor string, o api.OpenID) error {
	if err := i.TryOpenID(ctx, o); err != nil {
		return err
	}
	return writeKept(i, openIDSetting, actor, o.Secret, o, o.Issuer == "")
}

// TryOpenID checks settings, and asks a service that is turned on for its description.
// Nothing is kept.
func (i *Identity) TryOpenID(ctx context.Context, o api.OpenID) error {
	if err := checkOpenID(o); err != nil || !o.Enabled {
		return err
	}
	old, err := readKept[api.OpenID](i.store, openIDSetting)
	if err != nil {
		return err
	}
	if o.Secret == "" && len(old.Sealed) > 0 && old.Settings.Issuer != o.Issuer {
		return invalidSignOn("the secret is needed for another service")
	}
	_, _, err = i.describe(ctx, o)
	return err
}

func checkOpenID(o api.OpenID) error {
	if !o.Enabled && o.Issuer == "" {
		return nil
	}
	for what, address := range map[string]string{"the service": o.Issuer, "this appliance": o.Address} {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return invalidSignOn(fmt.Sprintf("%q is not the address of %s: want https://…", address, what))
		}
	}
	if o.ClientID == "" || o.NameClaim == "" || o.RoleClaim == "" {
		return invalidSignOn("the client ID and the claims of name and role are needed")
	}
	if _, err := serviceTLS(o.CA, ""); err != nil {
		return err
	}
	return checkRules(o.Roles)
}

// describe gives what the service says of itself.
func (i *Identity) describe(ctx context.Context, o api.OpenID) (*oidc.Provider, *http.Client, error) {
	i.openID.mu.Lock()
	defer i.openID.mu.Unlock()
	of := o.Issuer + "\x00" + o.CA
	if i.openID.of == of {
		return i.openID.provider, i.openID.client, nil
	}
	config, err := serviceTLS(o.CA, "")
	if err != nil {
		return nil, nil, err
	}
	client := &http.Client{Timeout: serviceTime, Transport: limited{&http.Transport{TLSClientConfig: config, TLSHandshakeTimeout: serviceTime, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: time.Minute}},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the service redirects: give its own address")
		}}
	// The provider asks for keys later, when this request is long over.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), client), o.Issuer)
	if err != nil {
		return nil, nil, unreachableService("the sign-in service", err)
	}
	i.openID.of, i.openID.provider, i.openID.client = of, provider, client
	return provider, client, nil
}

// limited bounds the answers of a service.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxServiceAnswer), response.Body}
	}
	return response, err
}

// openIDFlow is all that a sign-in needs.
func (i *Identity) openIDFlow(ctx context.Context) (api.OpenID, *oidc.Provider, *http.Client, *oauth2.Config, error) {
	k, err := readKept[api.OpenID](i.store, openIDSetting)
	o := k.Settings
	if err == nil && !o.Enabled {
		err = &replication.Problem{Code: "signon.off", Cause: "there is no sign-in service", Action: "sign in with an account of the appliance", Remedy: replication.Stop}
	}
	if err != nil {
		return o, nil, nil, nil, err
	}
	secret, err := i.secretOf(openIDSetting, k.Sealed)
	if err != nil {
		return o, nil, nil, nil, err
	}
	provider, client, err := i.describe(ctx, o)
	if err != nil {
		return o, nil, nil, nil, err
	}
	return o, provider, client, &oauth2.Config{ClientID: o.ClientID, ClientSecret: secret, Endpoint: provider.Endpoint(), RedirectURL: strings.TrimSuffix(o.Address, "/") + OpenIDPath,
		Scopes: append([]string{oidc.ScopeOpenID}, o.Scopes...)}, nil
}

// BeginOpenID gives the address at the service to which somebody is sent, and what
// their browser carries meanwhile.
func (i *Identity) BeginOpenID(ctx context.Context, next string) (address, carried string, err error) {
	_, _, _, config, err := i.openIDFlow(ctx)
	if err != nil {
		return "", "", err
	}
	f := flow{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Next: next, Until: i.now().Add(openIDTime)}
	text, err := json.Marshal(f)
	if err != nil {
		return "", "", err
	}
	carried = base64.RawURLEncoding.EncodeToString(i.sealer.seal(openIDPurpose, string(text)))
	return config.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), carried, nil
}

// FinishOpenID takes somebody who comes back from the service. next is the page
// that they wanted.
func (i *Identity) FinishOpenID(ctx context.Context, carried string, answer url.Values, address string) (user store.User, next string, err error) {
	place := "openid " + address
	if wait := i.lockout.wait(place); wait > 0 {
		return user, "", locked(wait)
	}
	f, err := i.openFlow(carried)
	if err != nil {
		return user, "", err
	}
	if subtle.ConstantTimeCompare([]byte(f.State), []byte(answer.Get("state"))) != 1 {
		i.lockout.failed(place, freeTries)
		return user, "", refusedFlow("the answer belongs to another sign-in")
	}
	if reason := answer.Get("error"); reason != "" {
		return user, "", refusedFlow(fmt.Sprintf("the sign-in service refused: %.60s", reason))
	}
	o, provider, client, config, err := i.openIDFlow(ctx)
	if err != nil {
		return user, "", err
	}
	bounded, cancel := bounded(oidc.ClientContext(ctx, client))
	defer cancel()
	claims, subject, err := i.redeem(bounded, o, provider, config, f, answer.Get("code"))
	if err != nil {
		i.lockout.failed(place, freeTries)
		i.log.Warn("a sign-in by OpenID Connect was refused", "address", address, "error", err)
		return user, "", err
	}
	s := stranger{source: store.SourceOIDC, subject: o.Issuer + " " + subject}
	s.name, _ = claims[o.NameClaim].(string)
	if o.NameClaim == "email" && claims["email_verified"] != true {
		return user, "", refusedFlow("the service has not verified the e-mail address")
	}
	values := texts(claims[o.RoleClaim])
	role, ok := roleOf(o.Roles, func(value string) bool { return slices.Contains(values, value) })
	if s.role = role; !ok {
		return user, "", noRole(s.name)
	}
	user, err = i.admit(s, address)
	return user, f.Next, err
}

func (i *Identity) openFlow(carried string) (f flow, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(carried)
	if err != nil || len(raw) == 0 {
		return f, refusedFlow("no sign-in was under way in this browser")
	}
	text, err := i.sealer.open(openIDPurpose, raw)
	if err != nil {
		return f, refusedFlow("no sign-in was under way in this browser")
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return f, err
	}
	if i.now().After(f.Until) {
		return f, refusedFlow("the sign-in took too long")
	}
	return f, nil
}

// redeem exchanges the code for an ID token, checks it, and gives its claims; those
// that it lacks are asked for.
func (i *Identity) redeem(ctx context.Context, o api.OpenID, provider *oidc.Provider, config *oauth2.Config, f flow, code string) (map[string]any, string, error) {
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		if _, answered := errors.AsType[*oauth2.RetrieveError](err); !answered {
			return nil, "", unreachableService("the sign-in service", err)
		}
		return nil, "", refusedFlow("the sign-in service does not know this sign-in")
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, "", refusedFlow("the sign-in service gave no ID token")
	}
	id, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: o.ClientID, Now: i.now}).Verify(ctx, raw)
	if err != nil {
		return nil, "", refusedFlow("the ID token of the sign-in service is not good: " + err.Error())
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1 {
		return nil, "", refusedFlow("the ID token belongs to another sign-in")
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return nil, "", refusedFlow("the ID token cannot be read")
	}
	if claims[o.NameClaim] != nil && claims[o.RoleClaim] != nil || provider.UserInfoEndpoint() == "" {
		return claims, id.Subject, nil
	}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, "", unreachableService("the sign-in service", err)
	}
	if info.Subject != id.Subject {
		return nil, "", refusedFlow("the sign-in service told of somebody else")
	}
	more := map[string]any{}
	if err := info.Claims(&more); err != nil {
		return nil, "", refusedFlow("the claims of the sign-in service cannot be read")
	}
	for name, value := range more {
		if claims[name] == nil {
			claims[name] = value
		}
	}
	return claims, id.Subject, nil
}

func refusedFlow(cause string) error {
	return &replication.Problem{Code: "login.refused", Cause: cause, Effect: "you are not signed in", Action: "begin again at the sign-in", Remedy: replication.Stop}
}

// texts are the values of a claim: one text or a list of them.
func texts(claim any) []string {
	switch c := claim.(type) {
	case string:
		return []string{c}
	case []any:
		var list []string
		for _, each := range c {
			if text, ok := each.(string); ok {
				list = append(list, text)
			}
		}
		return list
	}
	return nil
}
