package identity

import (
	"math"

	"github.com/trustelem/zxcvbn"

	"riparo/web/api"
)

// A password is measured by the number of guesses that it withstands, as zxcvbn
// counts them: words and names in many languages' common lists, dates, rows of keys,
// repetitions. There are no rules about its letters.
const (
	// leastGuesses, as a power of ten, is what a new password has to withstand: with
	// an argon2id hash that is centuries for a single machine.
	leastGuesses = 10
	// measuredBytes bounds what is measured: the time grows with the square of it, and
	// what is longer is strong enough by its beginning.
	measuredBytes = 64
)

// Strength is how much guessing a password withstands.
type Strength = api.Strength

// Measure tells how strong a password is for an account of this name.
func Measure(name, password string) Strength {
	if len(password) > measuredBytes {
		password = password[:measuredBytes]
	}
	if password == "" {
		return Strength{}
	}
	result := zxcvbn.PasswordStrength(password, []string{name, "riparo", "appliance", "disaster", "recovery"})
	guesses := math.Log10(max(1, result.Guesses))
	s := Strength{Guesses: guesses, Enough: guesses >= leastGuesses}
	for _, limit := range []float64{3, 6, 8, leastGuesses} {
		if guesses >= limit {
			s.Score++
		}
	}
	return s
}

// Measure tells how strong a password is for an account of this name.
func (i *Identity) Measure(name, password string) Strength { return Measure(name, password) }
