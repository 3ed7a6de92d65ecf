package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"riparo/replication"
	"riparo/store"
)

// An API token is "riparo_ID_SECRET": the ID finds the record, the secret, 130
// bits, is compared with its hash. The prefix lets scanners of leaked secrets
// recognize one.
const tokenPrefix = "riparo_"

// programPrefix is what the API calls a program by whose token names no person.
const programPrefix = "token "

// maxTokens bounds the list of a page and the record of a careless script.
const maxTokens = 1000

// usedEvery is how precisely the last use of a token is kept: writing it with
// every request would cost an fsync each.
const usedEvery = time.Minute

// Bearer gives the token that a request carries, with no more rights than the person
// who made it has now. It refuses what is unknown, wrong or expired, without saying
// which, and one whose person is gone or shut out: closing an account would otherwise
// close one of two doors.
func (i *Identity) Bearer(secret string) (store.Token, error) {
	refused := &replication.Problem{Code: "token.refused", Cause: "the API token is unknown or has expired",
		Action: "make a new one under Settings", Remedy: replication.Stop}
	id, _, ok := strings.Cut(strings.TrimPrefix(secret, tokenPrefix), "_")
	if !ok || !strings.HasPrefix(secret, tokenPrefix) {
		return store.Token{}, refused
	}
	var token store.Token
	var person store.User
	err := i.store.View(func(tx *store.Tx) (err error) {
		if token, err = tx.Tokens().Get(id); err != nil || token.By == "" {
			return err
		}
		if person, err = tx.Users().Get(key(token.By)); missing(err) {
			return nil
		}
		return err
	})
	if missing(err) {
		return store.Token{}, refused
	}
	if err != nil {
		return store.Token{}, err
	}
	now := i.now()
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], token.Hash) != 1 || !token.Expires.IsZero() && !now.Before(token.Expires) {
		return store.Token{}, refused
	}
	if err := deserted(token, person); err != nil {
		return store.Token{}, err
	}
	if now.Sub(token.LastUsed) >= usedEvery {
		err := i.store.Update(func(tx *store.Tx) error {
			t, err := tx.Tokens().Get(id)
			if err != nil {
				return err
			}
			t.LastUsed = now
			token = t
			return tx.Tokens().Put(t)
		})
		if missing(err) { // revoked meanwhile
			return store.Token{}, refused
		}
		if err != nil {
			return store.Token{}, err
		}
	}
	if token.By != "" {
		token.Role = lesser(token.Role, person.Role)
	}
	return token, nil
}

// deserted says why nobody stands behind a token any more, or nil. person is who made
// it; an account of the same name that is younger is somebody else's. Tokens of old, and
// those that such a token has made, name nobody: they end by themselves alone.
func deserted(t store.Token, person store.User) error {
	switch {
	case t.By == "":
		return nil
	case person.Name == "" || t.Created.Before(person.Created):
		return &replication.Problem{Code: "token.person", Cause: fmt.Sprintf("%s, who made the API token, has no account any more", t.By), Effect: "nothing was done",
			Action: "let somebody who has one make a new token under Settings", Remedy: replication.Stop}
	case person.Disabled:
		return &replication.Problem{Code: "token.person", Cause: fmt.Sprintf("the account of %s, who made the API token, is closed", t.By), Effect: "nothing was done",
			Action: "let somebody whose account is open make a new token under Settings", Remedy: replication.Stop}
	}
	return nil
}

// lesser is the role with what both may. What is for auditors is beside the order of the
// others: an operator may not read the audit log.
func lesser(x, y store.Role) store.Role {
	low, high := slices.Index(Roles(), x), slices.Index(Roles(), y)
	if low > high {
		low, high = high, low
	}
	switch {
	case low < 0:
		return ""
	case Roles()[low] == store.Auditor && high != low && Roles()[high] != store.Administrator:
		return store.Viewer
	}
	return Roles()[low]
}

// Tokens are all API tokens, oldest first.
func (i *Identity) Tokens() ([]store.Token, error) {
	var tokens []store.Token
	err := i.store.View(func(tx *store.Tx) error {
		for t, err := range tx.Tokens().All() {
			if err != nil {
				return err
			}
			tokens = append(tokens, t)
		}
		return nil
	})
	slices.SortFunc(tokens, func(a, b store.Token) int { return a.Created.Compare(b.Created) })
	return tokens, err
}

// CreateToken makes an API token and gives its secret, which is not shown again.
// life 0 means that it does not expire. actor is the person who makes it, and by whose
// account it stands and falls.
func (i *Identity) CreateToken(actor, name string, role store.Role, life time.Duration) (string, store.Token, error) {
	name = strings.TrimSpace(name)
	if name == "" || utf8.RuneCountInString(name) > 64 {
		return "", store.Token{}, &replication.Problem{Code: "token.name", Cause: "a token needs a name of 1 to 64 characters",
			Action: "name it after the program that will use it", Remedy: replication.Stop}
	}
	if !slices.Contains(Roles(), role) || life < 0 {
		return "", store.Token{}, &replication.Problem{Code: "role.unknown", Cause: fmt.Sprintf("%q is not a role", role),
			Action: "choose one of those offered", Remedy: replication.Stop}
	}
	now := i.now()
	token := store.Token{ID: strings.ToLower(rand.Text()[:8]), Name: name, Role: role, By: actor, Created: now}
	secret := tokenPrefix + token.ID + "_" + rand.Text()
	hash := sha256.Sum256([]byte(secret))
	token.Hash = hash[:]
	if life > 0 {
		token.Expires = now.Add(life)
	}
	err := i.store.Update(func(tx *store.Tx) error {
		n := 0
		for _, err := range tx.Tokens().All() {
			if err != nil {
				return err
			}
			n++
		}
		if n >= maxTokens {
			return &replication.Problem{Code: "token.many", Cause: fmt.Sprintf("there are %d tokens already", n),
				Action: "revoke those that are not used any more", Remedy: replication.Stop}
		}
		person, err := tx.Users().Get(key(actor))
		if err != nil && !missing(err) {
			return err
		}
		if missing(err) && strings.HasPrefix(actor, programPrefix) {
			token.By = ""
		}
		if token.Created.Before(person.Created) { // the clock was set back since
			token.Created = person.Created
		}
		if err := tx.Tokens().Put(token); err != nil {
			return err
		}
		return i.event(tx, "info", "token.created", fmt.Sprintf("the API token %s was made as %s by %s", name, role, actor),
			map[string]string{"actor": actor, "token": name, "role": string(role)})
	})
	if err != nil {
		return "", store.Token{}, err
	}
	return secret, token, nil
}

// RevokeToken ends a token at once.
func (i *Identity) RevokeToken(actor, id string) error {
	return i.store.Update(func(tx *store.Tx) error {
		token, err := tx.Tokens().Get(id)
		if err != nil {
			return err
		}
		if err := tx.Tokens().Delete(id); err != nil {
			return err
		}
		return i.event(tx, "info", "token.revoked", fmt.Sprintf("the API token %s was revoked by %s", token.Name, actor),
			map[string]string{"actor": actor, "token": token.Name})
	})
}
