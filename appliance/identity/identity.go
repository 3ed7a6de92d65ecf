package identity

import (
	"errors"
	"log/slog"
	"maps"
	"strings"
	"time"

	"riparo/store"
)

// Identity answers who somebody is. It is safe from several goroutines.
type Identity struct {
	store      *store.Store
	log        *slog.Logger
	now        func() time.Time
	hasher     hasher
	sealer     sealer
	lockout    *lockout
	sessions   *sessions
	setup      setup
	onClaim    func()
	openID     openIDs
	challenges usedChallenges
	// nobody is the hash that an unknown account is compared with, so that it
	// takes as long as a known one.
	nobody string
}

// Options are what New needs besides the store.
type Options struct {
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
	// KeyFile holds the key of the secrets that are kept; it is made when it is
	// missing. Empty: they are good until the process ends.
	KeyFile string
	// Claimed, if set, is called when the appliance has got its administrator.
	Claimed func()
}

// New gives the identity of an appliance. It makes no setup token: see
// [Identity.OfferSetup].
func New(st *store.Store, o Options) (*Identity, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	i := &Identity{store: st, log: o.Logger, now: o.Now, onClaim: o.Claimed, hasher: newHasher(), lockout: newLockout(o.Now), nobody: nobodys()}
	i.sessions = newSessions(st, o.Now)
	var err error
	if i.sealer, err = newSealer(o.KeyFile); err != nil {
		return nil, err
	}
	return i, nil
}

// key is how an account is found: names differ by more than the size of letters.
func key(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// User gives an account, or [store.ErrNotFound].
func (i *Identity) User(name string) (store.User, error) {
	var u store.User
	err := i.store.View(func(tx *store.Tx) (err error) {
		u, err = tx.Users().Get(key(name))
		return err
	})
	return u, err
}

// change updates an account.
func (i *Identity) change(name string, change func(*store.User)) error {
	return i.store.Update(func(tx *store.Tx) error {
		u, err := tx.Users().Get(key(name))
		if err != nil {
			return err
		}
		change(&u)
		return tx.Users().Put(u)
	})
}

// SetLanguage keeps the language of an account.
func (i *Identity) SetLanguage(name, language string) error {
	return i.change(name, func(u *store.User) { u.Language = language })
}

// SetView keeps how somebody wants to see a list.
func (i *Identity) SetView(name, list string, v store.ListView) error {
	return i.change(name, func(u *store.User) {
		u.Views = maps.Clone(u.Views)
		if u.Views == nil {
			u.Views = map[string]store.ListView{}
		}
		u.Views[list] = v
		if v.Sort == "" && len(v.Hide) == 0 {
			delete(u.Views, list)
		}
	})
}

// Claimed reports whether the appliance has an administrator.
func (i *Identity) Claimed() (bool, error) {
	claimed := false
	err := i.store.View(func(tx *store.Tx) error {
		for _, err := range tx.Users().All() {
			if err != nil {
				return err
			}
			claimed = true
			return nil
		}
		return nil
	})
	return claimed, err
}

// event tells of something that happened to an account.
func (i *Identity) event(tx *store.Tx, severity, code, text string, args map[string]string) error {
	now := i.now()
	return tx.AddEvent(store.Event{ID: store.NewID(now), Time: now, Severity: severity, Code: code, Text: text, Args: args})
}

var errNotFound = store.ErrNotFound

func missing(err error) bool { return errors.Is(err, errNotFound) }
