package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"sync"

	"riparo/replication"
	"riparo/store"
)

// setup keeps the hash of the setup token while the appliance is unclaimed.
type setup struct {
	mu   sync.Mutex // guards hash
	hash []byte     // nil: nothing to claim
}

// setupTokenLength is that of crypto/rand.Text: 26 letters of base 32, 130 bits.
const setupTokenLength = 26

// OfferSetup gives the token with which the appliance can be claimed: kept, if it
// is one (from the file of an earlier start), or a new one. It is empty when the
// appliance has an administrator already; then the file can be removed.
func (i *Identity) OfferSetup(kept string) (string, error) {
	claimed, err := i.Claimed()
	if err != nil || claimed {
		return "", err
	}
	token := plainToken(kept)
	if len(token) != setupTokenLength {
		token = rand.Text()
	}
	hash := sha256.Sum256([]byte(token))
	i.setup.mu.Lock()
	defer i.setup.mu.Unlock()
	i.setup.hash = hash[:]
	return token, nil
}

// plainToken is a token as it was made, of one that a person typed.
func plainToken(text string) string {
	return strings.ToUpper(strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, text))
}

// Claim makes the first administrator. It works once, and only with the setup
// token.
func (i *Identity) Claim(ctx context.Context, token, name, password, language, address string) (store.User, error) {
	place := "setup " + address
	if wait := i.lockout.wait(place); wait > 0 {
		return store.User{}, locked(wait)
	}
	i.setup.mu.Lock()
	defer i.setup.mu.Unlock()
	hash := sha256.Sum256([]byte(plainToken(token)))
	if i.setup.hash == nil || subtle.ConstantTimeCompare(hash[:], i.setup.hash) != 1 {
		i.lockout.failed(place, freeTries)
		i.log.Warn("claim refused: wrong setup token", "address", address)
		return store.User{}, &replication.Problem{Code: "setup.token", Cause: "the setup token is not right",
			Action: "copy it from what the daemon printed at its start, or from the file setup-token in its data folder", Remedy: replication.Stop}
	}
	user, err := i.newUser(ctx, name, password, store.Administrator)
	if err != nil {
		return store.User{}, err
	}
	user.Language = language
	err = i.store.Update(func(tx *store.Tx) error {
		for _, err := range tx.Users().All() {
			if err != nil {
				return err
			}
			return &replication.Problem{Code: "setup.claimed", Cause: "the appliance has an administrator already",
				Action: "sign in", Remedy: replication.Stop}
		}
		if err := tx.Users().Put(user); err != nil {
			return err
		}
		return i.event(tx, "info", "setup.claimed", fmt.Sprintf("the appliance was claimed by %s, its administrator", user.Name),
			map[string]string{"user": user.Name, "address": address})
	})
	if err != nil {
		return store.User{}, err
	}
	i.setup.hash = nil
	i.lockout.succeeded(place)
	if i.onClaim != nil {
		i.onClaim()
	}
	return user, nil
}

// Entitled reports whether somebody has the setup token, without using it up. Wrong
// tries count as those of Claim do.
func (i *Identity) Entitled(token, address string) error {
	place := "setup " + address
	if wait := i.lockout.wait(place); wait > 0 {
		return locked(wait)
	}
	i.setup.mu.Lock()
	defer i.setup.mu.Unlock()
	hash := sha256.Sum256([]byte(plainToken(token)))
	if i.setup.hash == nil || subtle.ConstantTimeCompare(hash[:], i.setup.hash) != 1 {
		i.lockout.failed(place, freeTries)
		i.log.Warn("restore refused: wrong setup token", "address", address)
		return &replication.Problem{Code: "setup.token", Cause: "the setup token is not right",
			Action: "copy it from what the daemon printed at its start, or from the file setup-token in its data folder", Remedy: replication.Stop}
	}
	return nil
}
