package identity

import (
	"context"
	"fmt"
	"slices"

	"riparo/replication"
	"riparo/store"
)

// AddUser makes an account. Its password is the first one only: whoever signs in
// with it has to choose another.
func (i *Identity) AddUser(ctx context.Context, actor, name, password string, role store.Role) error {
	user, err := i.newUser(ctx, name, password, role)
	if err != nil {
		return err
	}
	user.MustChange = true
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
		if err := keepsAnAdministrator(tx, user); err != nil {
			return err
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

// keepsAnAdministrator refuses what would leave the appliance to nobody: to an
// account that is gone, disabled, or known to a service that may be down when it
// counts.
func keepsAnAdministrator(tx *store.Tx, but store.User) error {
	if but.Role != store.Administrator || but.Disabled || but.Source != "" {
		return nil
	}
	for u, err := range tx.Users().All() {
		if err != nil {
			return err
		}
		if u.Role == store.Administrator && !u.Disabled && u.Source == "" && key(u.Name) != key(but.Name) {
			return nil
		}
	}
	return &replication.Problem{Code: "user.last", Cause: fmt.Sprintf("%s is the last administrator", but.Name),
		Effect: "nobody could administer the appliance any more", Action: "add another administrator first", Remedy: replication.Stop}
}

// SetRole gives an account another role. Its sessions end: what was open was opened
// with the old one.
func (i *Identity) SetRole(actor, name string, role store.Role) error {
	if !slices.Contains(Roles(), role) {
		return unknownRole(role)
	}
	changed := false
	err := i.store.Update(func(tx *store.Tx) error {
		u, err := tx.Users().Get(key(name))
		if err != nil || u.Role == role {
			return err
		}
		if u.Source != "" {
			return &replication.Problem{Code: "user.elsewhere", Cause: fmt.Sprintf("the role of %s is given by the groups of another service", u.Name),
				Action: "change the groups there, or the rules here", Remedy: replication.Stop}
		}
		if err := keepsAnAdministrator(tx, u); err != nil {
			return err
		}
		before := u.Role
		u.Role, changed = role, true
		if err := tx.Users().Put(u); err != nil {
			return err
		}
		return i.event(tx, "warning", "user.role", fmt.Sprintf("%s was made %s by %s; it was %s", u.Name, role, actor, before),
			map[string]string{"actor": actor, "user": u.Name, "role": string(role), "before": string(before)})
	})
	if err != nil || !changed {
		return err
	}
	return i.EndSessions(name, "")
}

// SetDisabled closes an account or opens it again. A closed one keeps its role and
// what is told of it, and cannot sign in.
func (i *Identity) SetDisabled(actor, name string, disabled bool) error {
	err := i.store.Update(func(tx *store.Tx) error {
		u, err := tx.Users().Get(key(name))
		if err != nil || u.Disabled == disabled {
			return err
		}
		if err := keepsAnAdministrator(tx, u); disabled && err != nil {
			return err
		}
		u.Disabled = disabled
		if err := tx.Users().Put(u); err != nil {
			return err
		}
		args := map[string]string{"actor": actor, "user": u.Name}
		if disabled {
			return i.event(tx, "warning", "user.disabled", fmt.Sprintf("the account %s was closed by %s", u.Name, actor), args)
		}
		return i.event(tx, "warning", "user.enabled", fmt.Sprintf("the account %s was opened again by %s", u.Name, actor), args)
	})
	if err != nil || !disabled {
		return err
	}
	return i.EndSessions(name, "")
}

// ResetPassword gives an account another first password, and ends its sessions.
func (i *Identity) ResetPassword(ctx context.Context, actor, name, password string) error {
	user, err := i.User(name)
	if err != nil {
		return err
	}
	if user.Source != "" {
		return &replication.Problem{Code: "user.elsewhere", Cause: fmt.Sprintf("the password of %s is not kept here", user.Name),
			Action: "change it where the account is", Remedy: replication.Stop}
	}
	if err := i.setPassword(ctx, user.Name, password, true); err != nil {
		return err
	}
	i.record("warning", "user.reset", fmt.Sprintf("the password of %s was reset by %s", user.Name, actor), map[string]string{"actor": actor, "user": user.Name})
	return i.EndSessions(name, "")
}

func unknownRole(role store.Role) error {
	return &replication.Problem{Code: "role.unknown", Cause: fmt.Sprintf("%q is not a role", role),
		Action: "choose one of those offered", Remedy: replication.Stop}
}
