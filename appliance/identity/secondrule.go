package identity

import (
	"fmt"
	"slices"
	"strings"

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
