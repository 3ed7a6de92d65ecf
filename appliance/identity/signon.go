package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// People can also be known to a service beside the appliance: a directory, or one
// that speaks OpenID Connect. Accounts that are kept here always sign in here,
// whatever the services do: with the services down, an administrator gets in.
const (
	openIDSetting    = "signon.openid"
	directorySetting = "signon.directory"
	// serviceTime bounds each exchange with a service.
	serviceTime = 10 * time.Second
	maxRules    = 100
)

// kept is a setting with its secret, sealed.
type kept[T any] struct {
	Settings T      `json:"settings"`
	Sealed   []byte `json:"sealed,omitempty"`
}

func readKept[T any](st *store.Store, name string) (k kept[T], err error) {
	err = st.View(func(tx *store.Tx) error {
		_, err := tx.Setting(name, &k)
		return err
	})
	return k, err
}

// writeKept keeps settings; an empty secret leaves the one that is there, unless the
// service is gone.
func writeKept[T any](i *Identity, name, actor, secret string, settings T, gone bool) error {
	return i.store.Update(func(tx *store.Tx) error {
		var k kept[T]
		if _, err := tx.Setting(name, &k); err != nil {
			return err
		}
		k.Settings = settings
		if gone {
			k.Sealed = nil
		} else if secret != "" {
			k.Sealed = i.sealer.seal(name, secret)
		}
		if err := tx.SetSetting(name, k); err != nil {
			return err
		}
		return i.event(tx, "warning", "signon.saved", fmt.Sprintf("how people sign in was changed by %s", actor), map[string]string{"actor": actor, "service": name})
	})
}

func (i *Identity) secretOf(name string, sealed []byte) (string, error) {
	if len(sealed) == 0 {
		return "", nil
	}
	return i.sealer.open(name, sealed)
}

// signOnRequest is what secrets in requests that wait for approval are sealed for.
const signOnRequest = "signon.request"

// SealRequest hides the secret of a sign-in service in a request that waits for
// approval; OpenRequest gives it back.
func (i *Identity) SealRequest(secret string) []byte {
	if secret == "" {
		return nil
	}
	return i.sealer.seal(signOnRequest, secret)
}

// OpenRequest gives the secret that SealRequest hid.
func (i *Identity) OpenRequest(sealed []byte) (string, error) {
	return i.secretOf(signOnRequest, sealed)
}

// roleOf is the highest role that the values give.
func roleOf(rules []api.RoleRule, has func(value string) bool) (store.Role, bool) {
	best, found := store.Role(""), false
	rank := func(r store.Role) int { return slices.Index(Roles(), r) }
	for _, rule := range rules {
		if has(rule.Value) && (!found || rank(rule.Role) > rank(best)) {
			best, found = rule.Role, true
		}
	}
	return best, found
}

func checkRules(rules []api.RoleRule) error {
	if len(rules) == 0 || len(rules) > maxRules {
		return invalidSignOn(fmt.Sprintf("there are %d rules that give a role: want 1 to %d", len(rules), maxRules))
	}
	for _, rule := range rules {
		if strings.TrimSpace(rule.Value) == "" || !slices.Contains(Roles(), rule.Role) {
			return invalidSignOn(fmt.Sprintf("the rule %q = %q gives no role", rule.Value, rule.Role))
		}
	}
	return nil
}

func invalidSignOn(cause string) error {
	return &replication.Problem{Code: "signon.invalid", Cause: cause, Effect: "nothing was changed", Action: "correct it and save again", Remedy: replication.Stop}
}

// serviceTLS trusts the system's authorities, or only those of a PEM text.
func serviceTLS(ca, host string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if strings.TrimSpace(ca) == "" {
		return config, nil
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM([]byte(ca)) {
		return nil, invalidSignOn("the PEM text holds no certificate")
	}
	return config, nil
}

// stranger is somebody whom a service has vouched for.
type stranger struct {
	source, subject, name string
	role                  store.Role
}

// admit gives the account of somebody whom a service has vouched for; at the first
// time it is made. A name that somebody else has already is not given away.
func (i *Identity) admit(s stranger, address string) (store.User, error) {
	if err := checkName(s.name); err != nil {
		return store.User{}, err
	}
	var user store.User
	ended := false
	err := i.store.Update(func(tx *store.Tx) error {
		u, err := tx.Users().Get(key(s.name))
		switch {
		case missing(err):
			u = store.User{Name: s.name, Created: i.now(), Source: s.source, Subject: s.subject}
			if err := i.event(tx, "info", "user.admitted", fmt.Sprintf("%s signed in for the first time, as %s, known to %s", s.name, s.role, s.source),
				map[string]string{"user": s.name, "role": string(s.role), "source": s.source, "address": address}); err != nil {
				return err
			}
		case err != nil:
			return err
		case u.Source != s.source || u.Subject != s.subject:
			return &replication.Problem{Code: "user.clash", Cause: fmt.Sprintf("the name %s belongs to somebody else here", s.name), Effect: "you are not signed in",
				Action: "ask an administrator to remove that account, or to have another name at the service", Remedy: replication.Stop}
		case u.Disabled:
			return &replication.Problem{Code: "user.closed", Cause: fmt.Sprintf("the account %s is closed", s.name), Effect: "you are not signed in", Action: "ask an administrator", Remedy: replication.Stop}
		}
		ended = u.Role != "" && u.Role != s.role
		u.Role, u.LastLogin = s.role, i.now()
		user = u
		return tx.Users().Put(u)
	})
	if err != nil {
		return store.User{}, err
	}
	if ended { // sessions with another role
		err = i.EndSessions(user.Name, "")
	}
	return user, err
}

func noRole(name string) error {
	return &replication.Problem{Code: "signon.role", Cause: fmt.Sprintf("%s is known there, but nothing gives a role here", name), Effect: "you are not signed in",
		Action: "ask an administrator for a group that has a role", Remedy: replication.Stop}
}

func unreachableService(what string, err error) error {
	return &replication.Problem{Code: "signon.unreachable", Cause: fmt.Sprintf("%s cannot be asked: %v", what, err), Effect: "its people cannot sign in; accounts of the appliance can",
		Action: "see that it runs, and that its address and certificate are right", Remedy: replication.Retry, Err: err}
}

// SignOn gives how people sign in besides with accounts of the appliance, without
// the secrets.
func (i *Identity) SignOn() (api.OpenID, api.Directory, error) {
	o, err := readKept[api.OpenID](i.store, openIDSetting)
	if err != nil {
		return api.OpenID{}, api.Directory{}, err
	}
	d, err := readKept[api.Directory](i.store, directorySetting)
	o.Settings.HasSecret, d.Settings.HasPassword = len(o.Sealed) > 0, len(d.Sealed) > 0
	return o.Settings, d.Settings, err
}

// SignOnMark is another value as soon as anything that is kept of a service, "openid" or
// "directory", was saved anew, its secret included.
func (i *Identity) SignOnMark(service string) (string, error) {
	var kept json.RawMessage
	err := i.store.View(func(tx *store.Tx) error {
		_, err := tx.Setting("signon."+service, &kept)
		return err
	})
	sum := sha256.Sum256(kept)
	return hex.EncodeToString(sum[:]), err
}

// bounded gives a context for one exchange with a service.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, serviceTime)
}
