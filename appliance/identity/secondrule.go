package identity

import (
	"fmt"
	"slices"
	"strings"

	"riparo/replication"
	"riparo/store"
)

// SecondRule gives the roles whose accounts have to have a second factor.
func (i *Identity) SecondRule() ([]store.Role, error) {
	var rule store.SecondRule
	err := i.store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingSecond, &rule)
		return err
	})
	return rule.Roles, err
}

// SaveSecondRule says which roles have to have a second factor. It holds from the next
// request of each of them on.
func (i *Identity) SaveSecondRule(actor string, roles []store.Role) error {
	kept := []store.Role{}
	var names []string
	for _, role := range Roles() { // in their order, each once
		if slices.Contains(roles, role) {
			kept, names = append(kept, role), append(names, string(role))
		}
	}
	for _, role := range roles {
		if !slices.Contains(kept, role) {
			return unknownRole(role)
		}
	}
	text := fmt.Sprintf("%s decided that no role has to have a second factor", actor)
	if len(names) > 0 {
		text = fmt.Sprintf("%s decided who has to have a second factor: %s", actor, strings.Join(names, ", "))
	}
	return i.store.Update(func(tx *store.Tx) error {
		if err := tx.SetSetting(store.SettingSecond, store.SecondRule{Roles: kept}); err != nil {
			return err
		}
		return i.event(tx, "warning", "second.rule", text, map[string]string{"actor": actor, "roles": strings.Join(names, ", ")})
	})
}

// NeedsSecond reports whether an account has to set up a second factor before it can do
// anything else. Who signs in by another service shows a second factor there.
func (i *Identity) NeedsSecond(u store.User) (bool, error) {
	if u.Source != "" || u.Second != nil || len(u.Passkeys) > 0 {
		return false, nil
	}
	roles, err := i.SecondRule()
	return slices.Contains(roles, u.Role), err
}

// needsPasskey reports whether the password of an account alone is too little: its role
// has to have a second factor, and it has passkeys and nothing else. Somebody who loses
// them needs a way back: those whom it takes to remove them, two administrators where
// there are two, have to be there, and not to need a passkey themselves.
func needsPasskey(tx *store.Tx, u store.User) (bool, error) {
	if u.Second != nil || len(u.Passkeys) == 0 {
		return false, nil
	}
	var rule store.SecondRule
	if _, err := tx.Setting(store.SettingSecond, &rule); err != nil || !slices.Contains(rule.Roles, u.Role) {
		return false, err
	}
	administrators, helpers := 0, 0
	for a, err := range tx.Users().All() {
		if err != nil {
			return false, err
		}
		if a.Role != store.Administrator || a.Disabled {
			continue
		}
		administrators++
		if key(a.Name) != key(u.Name) && a.Source == "" && (a.Second != nil || len(a.Passkeys) == 0) {
			helpers++
		}
	}
	return helpers >= max(1, min(administrators, 2)), nil
}

func passkeyNeeded() error {
	return &replication.Problem{Code: "login.passkey", Cause: "an account of this role needs a second factor, and this one has a passkey", Effect: "the password alone does not sign you in",
		Action: "sign in with the passkey, at the name of the appliance that it was made for; if it is lost, ask an administrator to remove the second factor", Remedy: replication.Stop}
}
