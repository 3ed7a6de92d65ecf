package api

import (
	"fmt"
	"slices"

	"riparo/replication"
	"riparo/store"
)

// Scope says what a token may do. Each holds what is before it, but for auditing,
// which is reading and the audit log.
type Scope string

// The scopes.
const (
	ScopeRead       Scope = "read"
	ScopeAudit      Scope = "audit"
	ScopeOperate    Scope = "operate"
	ScopeRecover    Scope = "recover"
	ScopeAdminister Scope = "administer"
)

// scopes are the same rights as those of people's roles, by another word: a token
// is no person.
var scopes = []struct {
	scope Scope
	role  store.Role
}{{ScopeRead, store.Viewer}, {ScopeAudit, store.Auditor}, {ScopeOperate, store.Operator}, {ScopeRecover, store.RecoveryOperator}, {ScopeAdminister, store.Administrator}}

// Scopes are all scopes, from the least to the most.
func Scopes() []Scope {
	var all []Scope
	for _, s := range scopes {
		all = append(all, s.scope)
	}
	return all
}

// Role is what a token of this scope may use.
func (s Scope) Role() (store.Role, error) {
	for _, each := range scopes {
		if each.scope == s {
			return each.role, nil
		}
	}
	return "", &replication.Problem{Code: "role.unknown", Cause: fmt.Sprintf("%q is not a scope", string(s)), Action: "choose one of those offered", Remedy: replication.Stop}
}

// ScopeOf is the scope of a token with this role.
func ScopeOf(role store.Role) Scope {
	if i := slices.IndexFunc(scopes, func(s struct {
		scope Scope
		role  store.Role
	}) bool {
		return s.role == role
	}); i >= 0 {
		return scopes[i].scope
	}
	return ""
}
