package identity

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"riparo/store"
)

// codeOf is what a program for one-time codes shows now.
func codeOf(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	c, err := totp.GenerateCode(strings.ReplaceAll(secret, " ", ""), at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secondOn turns one-time codes on for anna and gives the secret and the recovery
// codes. The code of now is used up.
func secondOn(t *testing.T, i *Identity, c *clock) (string, []string) {
	t.Helper()
	offer, err := i.OfferSecond("anna")
	if err != nil {
		t.Fatal(err)
	}
	codes, err := i.ConfirmSecond("anna", offer.Sealed, codeOf(t, offer.Secret, c.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return offer.Secret, codes
}

func TestACodeWorksOnceAndAboutNow(t *testing.T) {
	i, _, c := claimed(t)
	secret, _ := secondOn(t, i, c)
	now := codeOf(t, secret, c.Now())
	if err := i.CheckSecond("anna", now, "here"); code(err) != "second.wrong" {
		t.Errorf("the code that turned it on, again: %v", err)
	}
	c.pass(30 * time.Second)
	next := codeOf(t, secret, c.Now())
	if err := i.CheckSecond("ANNA", " "+next[:3]+" "+next[3:], "here"); err != nil {
		t.Errorf("the next code, as people type it: %v", err)
	}
	if err := i.CheckSecond("anna", next, "elsewhere"); code(err) != "second.wrong" {
		t.Errorf("a code that somebody looked over a shoulder: %v", err)
	}
	c.pass(2 * time.Minute)
	for off, want := range map[time.Duration]string{-90 * time.Second: "second.wrong", 90 * time.Second: "second.wrong"} {
		if err := i.CheckSecond("anna", codeOf(t, secret, c.Now().Add(off)), "here"); code(err) != want {
			t.Errorf("a code of %s from now: %v, want %q", off, err, want)
		}
	}
	if err := i.CheckSecond("anna", codeOf(t, secret, c.Now().Add(-30*time.Second)), "here"); err != nil {
		t.Errorf("the code of a clock that is half a minute late: %v", err)
	}
	if err := i.CheckSecond("anna", codeOf(t, secret, c.Now().Add(30*time.Second)), "here"); err != nil {
		t.Errorf("the code of a clock that is half a minute early: %v", err)
	}
	if err := i.CheckSecond("anna", codeOf(t, secret, c.Now()), "here"); code(err) != "second.wrong" {
		t.Errorf("a code older than one that was used: %v", err)
	}
}

func TestOneOfManyWithTheSameCodeGetsIn(t *testing.T) {
	i, _, c := claimed(t)
	secret, _ := secondOn(t, i, c)
	c.pass(time.Minute)
	same := codeOf(t, secret, c.Now())
	outcomes := make(chan error, 4)
	var wait sync.WaitGroup
	for n := range cap(outcomes) {
		wait.Go(func() { outcomes <- i.CheckSecond("anna", same, fmt.Sprint(n)) })
	}
	wait.Wait()
	close(outcomes)
	won := 0
	for err := range outcomes {
		if err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d sign-ins at once with one code succeeded: want 1", won)
	}
}

func TestGuessingCodesIsSlowedDownWhereverItComesFrom(t *testing.T) {
	i, st, c := claimed(t)
	secret, _ := secondOn(t, i, c)
	for n := range freeTries {
		if err := i.CheckSecond("anna", "000000", fmt.Sprint("10.0.0.", n)); code(err) != "second.wrong" {
			t.Fatalf("try %d: %v", n+1, err)
		}
	}
	c.pass(time.Second)
	right := codeOf(t, secret, c.Now().Add(30*time.Second))
	if err := i.CheckSecond("anna", right, "10.0.0.99"); code(err) != "login.locked" {
		t.Errorf("the right code after %d wrong ones: %v", freeTries, err)
	}
	told := false
	st.View(func(tx *store.Tx) error {
		for e, err := range tx.Events().All() {
			told = told || err == nil && e.Code == "second.locked"
		}
		return nil
	})
	if !told {
		t.Error("no event tells that somebody has the password and guesses codes")
	}
	c.pass(firstPause)
	if err := i.CheckSecond("anna", codeOf(t, secret, c.Now()), "here"); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

func TestARecoveryCodeSignsInOnce(t *testing.T) {
	i, st, c := claimed(t)
	_, codes := secondOn(t, i, c)
	if len(codes) != recoveryCodes || codes[0] == codes[1] {
		t.Fatalf("got the codes %q", codes)
	}
	if err := i.CheckSecond("anna", strings.ToLower(codes[3])+" ", "here"); err != nil {
		t.Errorf("a recovery code, as people type it: %v", err)
	}
	if err := i.CheckSecond("anna", codes[3], "here"); code(err) != "second.wrong" {
		t.Errorf("a recovery code that was used: %v", err)
	}
	if u, _ := i.User("anna"); len(u.Second.Recovery) != recoveryCodes-1 {
		t.Errorf("%d codes are left", len(u.Second.Recovery))
	}
	fresh, err := i.NewRecoveryCodes("anna")
	if err != nil {
		t.Fatal(err)
	}
	if err := i.CheckSecond("anna", codes[4], "here"); code(err) != "second.wrong" {
		t.Errorf("a code of the old list: %v", err)
	}
	if err := i.CheckSecond("anna", fresh[0], "here"); err != nil {
		t.Errorf("a code of the new list: %v", err)
	}
	told := 0
	st.View(func(tx *store.Tx) error {
		for e, err := range tx.Events().All() {
			if err == nil && e.Code == "second.recovery" {
				told++
			}
		}
		return nil
	})
	if told != 2 {
		t.Errorf("%d events tell of recovery codes, want 2", told)
	}
}

func TestTheSecretOfCodesIsKeptSealed(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "state.db"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	keyFile := filepath.Join(dir, "pki", "identity.key")
	open := func(file string) *Identity {
		i, err := New(st, Options{Now: c.Now, KeyFile: file})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	i := open(keyFile)
	token, _ := i.OfferSetup("")
	if _, err := i.Claim(t.Context(), token, "anna", good, "en", "here"); err != nil {
		t.Fatal(err)
	}
	secret, codes := secondOn(t, i, c)
	c.pass(time.Minute)
	if err := open(keyFile).CheckSecond("anna", codeOf(t, secret, c.Now()), "here"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	c.pass(time.Minute)
	if err := open(filepath.Join(dir, "other.key")).CheckSecond("anna", codeOf(t, secret, c.Now()), "here"); code(err) != "identity.seal" {
		t.Errorf("with another key: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append([]string{strings.ReplaceAll(secret, " ", ""), secret}, codes...) {
		if bytes.Contains(file, []byte(text)) {
			t.Errorf("state.db holds %q", text)
		}
	}
	if err := os.WriteFile(keyFile, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newSealer(keyFile); code(err) != "identity.key" {
		t.Errorf("a key that was cut off: %v", err)
	}
}

func TestAnOfferIsForOneAccountAndShowsTheSameTwice(t *testing.T) {
	i, _, c := claimed(t)
	offer, err := i.OfferSecond("anna")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(offer.Image)); err != nil {
		t.Errorf("the picture: %v", err)
	}
	again, err := i.ShowSecond("anna", offer.Sealed)
	if err != nil || again.Secret != offer.Secret || again.URL != offer.URL {
		t.Errorf("shown again: %+v, %v", again, err)
	}
	if err := i.AddUser(t.Context(), "anna", "bruno", good, store.Viewer); err != nil {
		t.Fatal(err)
	}
	if _, err := i.ConfirmSecond("bruno", offer.Sealed, codeOf(t, offer.Secret, c.Now())); code(err) != "identity.seal" {
		t.Errorf("another account's offer: %v", err)
	}
	for _, sealed := range []string{"", "x", "00", offer.Sealed[2:]} {
		if _, err := i.ConfirmSecond("anna", sealed, "000000"); err == nil {
			t.Errorf("an offer %q that is none was taken", sealed)
		}
	}
	if _, err := i.ConfirmSecond("anna", offer.Sealed, "000000"); code(err) != "second.wrong" {
		t.Errorf("a wrong code: %v", err)
	}
	if u, _ := i.User("anna"); u.Second != nil {
		t.Error("a second factor is on that was not confirmed")
	}
	if err := i.CheckSecond("anna", "000000", "here"); code(err) != "second.off" {
		t.Errorf("a code without a second factor: %v", err)
	}
	if _, err := i.NewRecoveryCodes("anna"); code(err) != "second.off" {
		t.Errorf("recovery codes without a second factor: %v", err)
	}
	if err := i.RemoveSecond("anna", "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nobody's second factor: %v", err)
	}
}
