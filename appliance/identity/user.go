package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"riparo/replication"
	"riparo/store"
)

// Login checks a password and gives the account. address is where the browser is;
// failures are counted for the account and for the address.
func (i *Identity) Login(ctx context.Context, name, password, address string) (store.User, error) {
	account, err := i.lockout.begin(ctx, "login "+key(name)+" "+address, freeTries)
	if err != nil {
		return store.User{}, err
	}
	defer account.end()
	place, err := i.lockout.begin(ctx, "login "+address, addressTries)
	if err != nil {
		return store.User{}, err
	}
	defer place.end()
	user, err := i.compareLogin(ctx, name, password, address)
	for errors.Is(err, errChanged) { // what the account is now counts
		user, err = i.compareLogin(ctx, name, password, address)
	}
	if errors.Is(err, errWrong) {
		return store.User{}, i.refuseLogin(user.Name, account, place, address)
	}
	if err == nil {
		account.succeeded()
	}
	return user, err
}

// How a comparison ends that says nothing to a person.
var (
	errWrong   = errors.New("the name or the password is wrong")
	errChanged = errors.New("the account was changed while its password was compared")
)

// compareLogin compares a password once and notes the sign-in. With [errWrong] it gives
// the account that there is, or none.
func (i *Identity) compareLogin(ctx context.Context, name, password, address string) (store.User, error) {
	user, err := i.User(name)
	known := err == nil
	if err != nil && !missing(err) {
		return store.User{}, err
	}
	if !known || user.Source != "" {
		outside, used, err := i.loginDirectory(ctx, name, password, address)
		if used && errors.Is(err, errNobody) {
			return user, errWrong
		}
		if used {
			return outside, err
		}
		known = false // the service that knows them is turned off
	}
	compared := user.PasswordHash
	if !known {
		compared = i.nobody
	}
	ok, stale, err := i.hasher.matches(ctx, compared, password)
	if err != nil {
		return store.User{}, fmt.Errorf("check the password of %s: %w", user.Name, err)
	}
	if !ok || !known || user.Disabled {
		return user, errWrong
	}
	hash := compared
	if stale {
		if hash, err = i.hasher.hash(ctx, password); err != nil {
			return store.User{}, err
		}
	}
	err = i.store.Update(func(tx *store.Tx) error {
		u, err := tx.Users().Get(key(name))
		if missing(err) || err == nil && (u.PasswordHash != compared || u.Disabled) { // comparing waits its turn
			return errChanged
		}
		if err != nil {
			return err
		}
		if needed, err := needsPasskey(tx, u); err != nil {
			return err
		} else if needed {
			i.log.Warn("a password was refused without the passkey that belongs to it", "user", u.Name, "address", address)
			return passkeyNeeded()
		}
		u.LastLogin, u.PasswordHash = i.now(), hash
		user = u
		return tx.Users().Put(u)
	})
	return user, err
}

// refuseLogin counts a failure and says no more than that it is one. known is the
// account, if there is one: what was typed for a name may be a password, and is
// written nowhere.
func (i *Identity) refuseLogin(known string, account, place *attempt, address string) error {
	name := cmp.Or(known, "an unknown account")
	wait := account.failed()
	place.failed()
	i.log.Warn("sign-in refused", "user", name, "address", address)
	if wait > 0 {
		i.record("warning", "login.locked", fmt.Sprintf("too many wrong passwords for %s from %s", name, address),
			map[string]string{"user": name, "address": address})
	}
	return &replication.Problem{Code: "login.refused", Cause: "the name or the password is wrong",
		Action: "try again", Remedy: replication.Stop}
}

// Locked is below the problem of whoever has tried too often.
type Locked struct{ wait time.Duration }

func (l *Locked) Error() string { return "locked for " + l.wait.String() }

// RetryAfter is how long another try is of no use.
func (l *Locked) RetryAfter() time.Duration { return l.wait }

func locked(wait time.Duration) error {
	return &replication.Problem{Code: "login.locked", Cause: "too many wrong tries",
		Action: fmt.Sprintf("try again in %s", wait.Round(time.Second)), Remedy: replication.Stop, Err: &Locked{wait}}
}

// ChangePassword replaces the password of an account that knows the old one.
func (i *Identity) ChangePassword(ctx context.Context, name, old, password string) error {
	compared, err := i.verifyPassword(ctx, name, old)
	if err != nil {
		return err
	}
	hash, err := i.HashPassword(ctx, name, password)
	if err != nil {
		return err
	}
	_, err = store.Change(i.store, store.Users, key(name), func(u *store.User) error {
		if u.PasswordHash != compared { // it was reset while we waited our turn
			return wrongPassword()
		}
		u.PasswordHash, u.MustChange = hash, false
		return nil
	})
	return err
}

func (i *Identity) setPassword(ctx context.Context, name, password string, mustChange bool) error {
	hash, err := i.HashPassword(ctx, name, password)
	if err != nil {
		return err
	}
	return i.change(name, func(u *store.User) { u.PasswordHash, u.MustChange = hash, mustChange })
}

// VerifyPassword asks somebody who is signed in for their password again, before
// what would let another person keep the account.
func (i *Identity) VerifyPassword(ctx context.Context, name, password string) error {
	_, err := i.verifyPassword(ctx, name, password)
	return err
}

// verifyPassword gives the hash that the password was compared with.
func (i *Identity) verifyPassword(ctx context.Context, name, password string) (compared string, err error) {
	account, err := i.lockout.begin(ctx, "password "+key(name), freeTries)
	if err != nil {
		return "", err
	}
	defer account.end()
	user, err := i.User(name)
	if err != nil {
		return "", err
	}
	ok, _, err := i.hasher.matches(ctx, user.PasswordHash, password)
	if err != nil {
		return "", err
	}
	if !ok {
		account.failed()
		return "", wrongPassword()
	}
	account.succeeded()
	return user.PasswordHash, nil
}

func wrongPassword() error {
	return &replication.Problem{Code: "password.wrong", Cause: "the present password is not right",
		Action: "type it again", Remedy: replication.Stop}
}

// Users are all accounts by name.
func (i *Identity) Users() ([]store.User, error) {
	var users []store.User
	err := i.store.View(func(tx *store.Tx) error {
		for u, err := range tx.Users().All() {
			if err != nil {
				return err
			}
			users = append(users, u)
		}
		return nil
	})
	return users, err
}

func (i *Identity) newUser(ctx context.Context, name, password string, role store.Role) (store.User, error) {
	name = strings.TrimSpace(name)
	if err := checkName(name); err != nil {
		return store.User{}, err
	}
	if err := CheckPassword(name, password); err != nil {
		return store.User{}, err
	}
	if !slices.Contains(Roles(), role) {
		return store.User{}, &replication.Problem{Code: "role.unknown", Cause: fmt.Sprintf("%q is not a role", role),
			Action: "choose one of those offered", Remedy: replication.Stop}
	}
	hash, err := i.hasher.hash(ctx, password)
	if err != nil {
		return store.User{}, err
	}
	return store.User{Name: name, Role: role, PasswordHash: hash, Created: i.now()}, nil
}

// Roles are all roles, from the least to the most.
func Roles() []store.Role {
	return []store.Role{store.Viewer, store.Auditor, store.Operator, store.RecoveryOperator, store.Administrator}
}

// CheckPassword reports what is wrong with a new password, or nil.
func CheckPassword(name, password string) error {
	stop := func(code, cause, action string) error {
		return &replication.Problem{Code: code, Cause: cause, Action: action, Remedy: replication.Stop}
	}
	switch n := utf8.RuneCountInString(password); {
	case n < MinPasswordLength:
		return stop("password.short", fmt.Sprintf("the password has fewer than %d characters", MinPasswordLength), "choose a longer one, a short sentence for example")
	case len(password) > maxPasswordBytes:
		return stop("password.long", fmt.Sprintf("the password has more than %d bytes", maxPasswordBytes), "choose a shorter one")
	case strings.EqualFold(password, name) || !Measure(name, password).Enough:
		return stop("password.weak", "the password can be guessed", "choose one that is longer or less usual, four words that have nothing to do with each other for example")
	}
	return nil
}

func checkName(name string) error {
	bad := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) && r != ' ' })
	if name == "" || utf8.RuneCountInString(name) > 64 || bad {
		return &replication.Problem{Code: "user.name", Cause: "an account needs a name of 1 to 64 printable characters",
			Action: "choose another name", Remedy: replication.Stop}
	}
	return nil
}

// record tells of an event outside of any other change. A sign-in does not fail
// because it could not be told.
func (i *Identity) record(severity, code, text string, args map[string]string) {
	err := i.store.Update(func(tx *store.Tx) error { return i.event(tx, severity, code, text, args) })
	if err != nil {
		i.log.Error("an event was not recorded", "code", code, "error", err)
	}
}
