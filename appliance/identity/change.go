package identity

import (
	"context"
	"fmt"
	"slices"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// Change does to an account what was decided. Whether it takes another person to decide
// is not its matter.
func (i *Identity) Change(ctx context.Context, actor, name string, c api.UserChange) error {
	switch c.Kind {
	case api.UserRole:
		return i.SetRole(actor, name, c.Role)
	case api.UserDisable, api.UserEnable:
		return i.SetDisabled(actor, name, c.Kind == api.UserDisable)
	case api.UserPassword:
		return i.ResetPassword(ctx, actor, name, c.Password)
	case api.UserSecond:
		return i.RemoveSecond(actor, name)
	case api.UserRemove:
		return i.RemoveUser(actor, name)
	}
	return fmt.Errorf("change an account: unknown kind %q", c.Kind)
}

// Possible reports, without doing anything, why a change cannot be made: a request for
// another administrator is not written for what would be refused anyway. It gives the
// account as it is.
func (i *Identity) Possible(name string, c api.UserChange) (store.User, error) {
	u, err := i.User(name)
	if err != nil {
		return u, err
	}
	switch {
	case c.Kind == api.UserRole && !slices.Contains(Roles(), c.Role):
		return u, unknownRole(c.Role)
	case u.Source != "" && (c.Kind == api.UserRole || c.Kind == api.UserPassword):
		return u, &replication.Problem{Code: "user.elsewhere", Cause: fmt.Sprintf("%s is known to another service", u.Name), Effect: "nothing was changed",
			Action: "change it there", Remedy: replication.Stop}
	case c.Kind == api.UserPassword:
		return u, CheckPassword(u.Name, c.Password)
	case c.Kind == api.UserDisable || c.Kind == api.UserRemove || c.Kind == api.UserRole && c.Role != store.Administrator:
		return u, i.store.View(func(tx *store.Tx) error { return keepsAnAdministrator(tx, u) })
	}
	return u, nil
}

// HashPassword checks a first password of somebody and gives its hash, for a reset that
// waits for another administrator.
func (i *Identity) HashPassword(ctx context.Context, name, password string) (string, error) {
	if err := CheckPassword(name, password); err != nil {
		return "", err
	}
	return i.hasher.hash(ctx, password)
}

// ResetToHash is ResetPassword with a hash that [Identity.HashPassword] gave.
func (i *Identity) ResetToHash(actor, name, hash string) error {
	if err := i.change(name, func(u *store.User) { u.PasswordHash, u.MustChange = hash, true }); err != nil {
		return err
	}
	i.record("warning", "user.reset", fmt.Sprintf("the password of %s was reset by %s", name, actor), map[string]string{"actor": actor, "user": name})
	return i.EndSessions(name, "")
}
