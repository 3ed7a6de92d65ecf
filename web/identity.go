package web

import (
	"context"
	"time"

	"github.com/alexedwards/scs/v2"

	"riparo/store"
)

// Identity is what the console and the API ask about those who use them; package
// appliance/identity answers. Errors are [replication.Problem]s where a person can
// do something about them.
type Identity interface {
	// Claimed reports whether there is an administrator. Until then the only page
	// is /setup.
	Claimed() (bool, error)
	// Claim makes the administrator of a fresh appliance.
	Claim(ctx context.Context, token, name, password, language, address string) (store.User, error)

	// Login checks a password; address is where the browser is.
	Login(ctx context.Context, name, password, address string) (store.User, error)
	User(name string) (store.User, error)
	SetLanguage(name, language string) error
	ChangePassword(ctx context.Context, name, old, password string) error

	Users() ([]store.User, error)
	AddUser(ctx context.Context, actor, name, password string, role store.Role) error
	RemoveUser(actor, name string) error

	// Bearer gives the API token of a request.
	Bearer(secret string) (store.Token, error)
	Tokens() ([]store.Token, error)
	CreateToken(actor, name string, role store.Role, life time.Duration) (secret string, token store.Token, err error)
	RevokeToken(actor, id string) error

	// Sessions keeps browser sessions; a session holds its user's name under
	// "user".
	Sessions() *scs.SessionManager
	// SessionAlive reports, without renewing it, whether a session still holds.
	SessionAlive(cookie string) bool
	// EndSessions ends a user's sessions but the one of the cookie except.
	EndSessions(user, except string) error
	// SweepSessions removes what has expired.
	SweepSessions() error
}

// sessionUser is the key of the user's name in a session.
const sessionUser = "user"
