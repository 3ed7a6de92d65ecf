package web

import (
	"context"
	"net/url"
	"time"

	"github.com/alexedwards/scs/v2"

	"riparo/store"
	"riparo/web/api"
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
	// Entitled reports whether somebody has the setup token of an unclaimed appliance.
	Entitled(token, address string) error

	Login(ctx context.Context, name, password, address string) (store.User, error)
	User(name string) (store.User, error)
	SetLanguage(name, language string) error
	// SetView keeps how somebody wants to see a list.
	SetView(name, list string, v store.ListView) error
	ChangePassword(ctx context.Context, name, old, password string) error
	// VerifyPassword asks somebody who is signed in for their password again.
	VerifyPassword(ctx context.Context, name, password string) error
	// Measure tells how strong a password is.
	Measure(name, password string) api.Strength

	SecondFactor
	Accounts
	SignOn
	Passkeys

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
	// SessionList are the sessions of a user, or all when user is empty; current is
	// the cookie of whoever asks.
	SessionList(user, current string) ([]api.Session, error)
	// EndSession ends one session of a user, or anybody's when user is empty, and
	// tells whose it was.
	EndSession(id, user string) (string, error)
	// EndSessions ends a user's sessions but the one of the cookie except.
	EndSessions(user, except string) error
	// SweepSessions removes what has expired.
	SweepSessions() error
}

// SecondFactor is what shows, beside the password, that it is the person.
type SecondFactor interface {
	// OfferSecond makes a secret for one-time codes; ShowSecond shows it again.
	OfferSecond(name string) (api.SecondOffer, error)
	ShowSecond(name, sealed string) (api.SecondOffer, error)
	// ConfirmSecond turns them on with a code, and gives the recovery codes.
	ConfirmSecond(name, sealed, code string) ([]string, error)
	// NeedsSecond reports whether somebody has to set one up before anything else.
	NeedsSecond(u store.User) (bool, error)
	SecondRule() ([]store.Role, error)
	NewRecoveryCodes(name string) ([]string, error)
	// CheckSecond takes the code of a person whose password was right.
	CheckSecond(name, code, address string) error
	RemoveSecond(actor, name string) error
}

// Accounts are those of others. They are changed through the appliance: see
// [api.People].
type Accounts interface {
	Users() ([]store.User, error)
}

// SignOn is how people sign in besides with accounts of the appliance. It is changed
// through the appliance: see [api.SignOnSaving].
type SignOn interface {
	api.SignOnSettings
	// BeginOpenID gives where somebody is sent, and what their browser carries.
	BeginOpenID(ctx context.Context, next string) (address, carried string, err error)
	// FinishOpenID takes them when they come back.
	FinishOpenID(ctx context.Context, carried string, answer url.Values, address string) (user store.User, next string, err error)
}

// Passkeys sign in by themselves. What is carried is what a browser keeps, sealed,
// during a ceremony; origin is how it has reached us.
type Passkeys interface {
	BeginPasskey(name, origin string) (options []byte, carried string, err error)
	FinishPasskey(name, label, origin, carried string, response []byte) error
	RemovePasskey(name, id string) error
	BeginPasskeyLogin(origin string) (options []byte, carried string, err error)
	FinishPasskeyLogin(origin, carried string, response []byte, address string) (store.User, error)
}

// sessionUser is the key of the user's name in a session.
const sessionUser = "user"

// What else a session holds: for the list of sessions.
const (
	sessionAddress = "address"
	sessionAgent   = "agent"
	sessionBegan   = "began" // RFC 3339
)
