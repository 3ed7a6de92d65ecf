package identity

import (
	"context"
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
	account, place := "login "+key(name)+" "+address, "login "+address
	if wait := max(i.lockout.wait(account), i.lockout.wait(place)); wait > 0 {
		return store.User{}, locked(wait)
	}
	user, err := i.User(name)
	known := err == nil
	if err != nil && !missing(err) {
		return store.User{}, err
	}
	hash := user.PasswordHash
	if !known {
		hash = i.nobody
	}
	ok, stale, err := i.hasher.matches(ctx, hash, password)
	if err != nil {
		return store.User{}, fmt.Errorf("check the password of %s: %w", user.Name, err)
	}
	if !ok || !known {
		i.lockout.failed(account, freeTries)
		i.lockout.failed(place, addressTries)
		i.log.Warn("sign-in refused", "user", name, "address", address)
		if wait := i.lockout.wait(account); wait > 0 {
			i.record("warning", "login.locked", fmt.Sprintf("too many wrong passwords for %s from %s", name, address),
				map[string]string{"user": name, "address": address})
		}
		return store.User{}, &replication.Problem{Code: "login.refused", Cause: "the name or the password is wrong",
			Action: "try again", Remedy: replication.Stop}
	}
	i.lockout.succeeded(account)
	if stale {
		if hash, err = i.hasher.hash(ctx, password); err != nil {
			return store.User{}, err
		}
	}
	err = i.change(user.Name, func(u *store.User) {
		u.LastLogin, u.PasswordHash = i.now(), hash
		user = *u
	})
	return user, err
}

func locked(wait time.Duration) error {
	return &replication.Problem{Code: "login.locked", Cause: "too many wrong tries",
		Action: fmt.Sprintf("try again in %s", wait.Round(time.Second)), Remedy: replication.Stop}
}

// ChangePassword replaces the password of an account that knows the old one.
func (i *Identity) ChangePassword(ctx context.Context, name, old, password string) error {
	account := "password " + key(name)
	if wait := i.lockout.wait(account); wait > 0 {
		return locked(wait)
	}
	user, err := i.User(name)
	if err != nil {
		return err
	}
	ok, _, err := i.hasher.matches(ctx, user.PasswordHash, old)
	if err != nil {
		return err
	}
	if !ok {
		i.lockout.failed(account, freeTries)
		return &replication.Problem{Code: "password.wrong", Cause: "the present password is not right",
			Action: "type it again", Remedy: replication.Stop}
	}
	if err := CheckPassword(user.Name, password); err != nil {
		return err
	}
	hash, err := i.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	i.lockout.succeeded(account)
	return i.change(name, func(u *store.User) { u.PasswordHash = hash })
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

// AddUser makes an account.
func (i *Identity) AddUser(ctx context.Context, actor, name, password string, role store.Role) error {
	user, err := i.newUser(ctx, name, password, role)
	if err != nil {
		return err
	}
	return i.store.Update(func(tx *store.Tx) error {
		if _, err := tx.Users().Get(key(name)); !missing(err) {
			if err != nil {
				return err
			}
			return &replication.Problem{Code: "user.exists", Cause: fmt.Sprintf("there is an account %s already", name),
				Action: "choose another name", Remedy: replication.Stop}
		}
		if err := tx.Users().Put(user); err != nil {
			return err
		}
		return i.event(tx, "info", "user.added", fmt.Sprintf("the account %s was added as %s by %s", user.Name, role, actor),
			map[string]string{"actor": actor, "user": user.Name, "role": string(role)})
	})
}

// RemoveUser ends an account and its sessions. The last administrator stays.
func (i *Identity) RemoveUser(actor, name string) error {
	err := i.store.Update(func(tx *store.Tx) error {
		user, err := tx.Users().Get(key(name))
		if err != nil {
			return err
		}
		administrators := 0
		for u, err := range tx.Users().All() {
			if err != nil {
				return err
			}
			if u.Role == store.Administrator {
				administrators++
			}
		}
		if user.Role == store.Administrator && administrators == 1 {
			return &replication.Problem{Code: "user.last", Cause: fmt.Sprintf("%s is the last administrator", user.Name),
				Effect: "nobody could administer the appliance any more", Action: "add another administrator first", Remedy: replication.Stop}
		}
		if err := tx.Users().Delete(key(name)); err != nil {
			return err
		}
		return i.event(tx, "info", "user.removed", fmt.Sprintf("the account %s was removed by %s", user.Name, actor),
			map[string]string{"actor": actor, "user": user.Name})
	})
	if err != nil {
		return err
	}
	return i.EndSessions(name, "")
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
	case strings.EqualFold(password, name), strings.Count(password, password[:1]) == len(password):
		return stop("password.weak", "the password can be guessed", "choose another one")
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
