package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"riparo/store"
)

// meanwhile runs ask, which compares a password, and does deed while it compares. It
// gives what ask gives.
func meanwhile(i *Identity, ask func() error, deed func()) error {
	turns := make(chan struct{}) // taken and given back only when we say so
	i.hasher.turns = turns
	outcome := make(chan error, 1)
	go func() { outcome <- ask() }()
	<-turns
	deed()
	turns <- struct{}{}
	for {
		select {
		case <-turns:
			turns <- struct{}{}
		case err := <-outcome:
			return err
		}
	}
}

func TestASignInUnderWayDoesNotUndoWhatHappensToTheAccount(t *testing.T) {
	const other = "another calm sentence"
	for name, deed := range map[string]func(i *Identity, hash string) error{
		"reset":   func(i *Identity, hash string) error { return i.ResetToHash("anna", "bruno", hash) },
		"closed":  func(i *Identity, _ string) error { return i.SetDisabled("anna", "bruno", true) },
		"removed": func(i *Identity, _ string) error { return i.RemoveUser("anna", "bruno") },
	} {
		i, _, _ := claimed(t)
		if err := i.AddUser(t.Context(), "anna", "bruno", good, store.Viewer); err != nil {
			t.Fatal(err)
		}
		hash, err := i.HashPassword(t.Context(), "bruno", other)
		if err != nil {
			t.Fatal(err)
		}
		login := func() error { _, err := i.Login(t.Context(), "bruno", good, "here"); return err }
		err = meanwhile(i, login, func() {
			if err := deed(i, hash); err != nil {
				t.Fatal(err)
			}
		})
		if code(err) != "login.refused" {
			t.Errorf("%s while the password was compared: %v, want a refusal", name, err)
		}
		if u, err := i.User("bruno"); name == "reset" && (err != nil || u.PasswordHash != hash) {
			t.Errorf("the sign-in wrote the old password back: %v", err)
		}
	}
}

func TestAChangeOfThePasswordUnderWayDoesNotUndoAReset(t *testing.T) {
	i, _, _ := claimed(t)
	if err := i.AddUser(t.Context(), "anna", "bruno", good, store.Viewer); err != nil {
		t.Fatal(err)
	}
	hash, err := i.HashPassword(t.Context(), "bruno", "another calm sentence")
	if err != nil {
		t.Fatal(err)
	}
	err = meanwhile(i, func() error { return i.ChangePassword(t.Context(), "bruno", good, "the sentence of a thief") }, func() {
		if err := i.ResetToHash("anna", "bruno", hash); err != nil {
			t.Fatal(err)
		}
	})
	if u, failed := i.User("bruno"); code(err) != "password.wrong" || failed != nil || u.PasswordHash != hash {
		t.Errorf("a change that knew the password from before the reset: %v, %v", err, failed)
	}
}

func TestTwoSignInsThatRenewAnOldHashBothHold(t *testing.T) {
	i, st, _ := claimed(t)
	if _, err := store.Change(st, store.Users, "anna", func(u *store.User) error { u.PasswordHash = weakHash(good); return nil }); err != nil {
		t.Fatal(err)
	}
	fresh, err := i.HashPassword(t.Context(), "anna", good)
	if err != nil {
		t.Fatal(err)
	}
	login := func() error { _, err := i.Login(t.Context(), "anna", good, "here"); return err }
	err = meanwhile(i, login, func() { // what the other one does
		if _, err := store.Change(st, store.Users, "anna", func(u *store.User) error { u.PasswordHash = fresh; return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Errorf("the second of two: %v", err)
	}
}

func TestARequestUnderWayDoesNotPutAnEndedSessionBack(t *testing.T) {
	for name, end := range map[string]func(i *Identity, ctx context.Context) error{
		"ended by itself": func(i *Identity, _ context.Context) error {
			_, err := i.EndSession(cookieHash("cookie"), "")
			return err
		},
		"ended with the others": func(i *Identity, _ context.Context) error { return i.EndSessions("anna", "") },
		"signed out":            func(i *Identity, ctx context.Context) error { return i.Sessions().Destroy(ctx) },
		"renamed":               func(i *Identity, ctx context.Context) error { return i.Sessions().RenewToken(ctx) },
	} {
		i, st, c := claimed(t)
		session(t, i, c, "cookie", "anna")
		kept := func(cookie string) (there bool) {
			st.View(func(tx *store.Tx) (err error) { there, err = tx.Sessions().Has(cookieHash(cookie)); return err })
			return there
		}
		load := func() context.Context {
			ctx, err := i.Sessions().Load(t.Context(), "cookie")
			if err != nil {
				t.Fatal(err)
			}
			return ctx
		}
		slow, quick := load(), load()
		c.pass(2 * time.Minute) // so that its end would be written
		if _, _, err := i.Sessions().Commit(load()); err != nil || !kept("cookie") {
			t.Fatalf("a session that holds: %v", err)
		}
		if err := end(i, quick); err != nil {
			t.Fatal(err)
		}
		i.Sessions().Put(slow, "theme", "dark")
		if _, _, err := i.Sessions().Commit(slow); !errors.Is(err, errEnded) || kept("cookie") {
			t.Errorf("%s: a request that had begun before ends with %v, and the session is there: %v", name, err, kept("cookie"))
		}
		if name != "renamed" {
			continue
		}
		if token, _, err := i.Sessions().Commit(quick); err != nil || token == "cookie" || !kept(token) {
			t.Errorf("by its new name %q it is not there: %v", token, err)
		}
	}
}

// burst asks so many times at once, and counts the answers by code.
func burst(n int, ask func(n int) error) map[string]int {
	var wait sync.WaitGroup
	outcomes := make(chan error, n)
	for n := range n {
		wait.Go(func() { outcomes <- ask(n) })
	}
	wait.Wait()
	close(outcomes)
	counts := map[string]int{}
	for err := range outcomes {
		counts[code(err)]++
	}
	return counts
}

func TestWhatIsGuessedAtOnceIsWorthNoMoreTries(t *testing.T) {
	i, st, c := claimed(t)
	secondOn(t, i, c)
	for name, row := range map[string]struct {
		said string
		free int
		ask  func(n int) error
	}{
		"passwords": {"login.refused", freeTries, func(int) error { _, err := i.Login(t.Context(), "anna", "wrong", "here"); return err }},
		"one password for many names": {"login.refused", addressTries, func(n int) error {
			_, err := i.Login(t.Context(), fmt.Sprint("user", n), "wrong", "there")
			return err
		}},
		"the present password": {"password.wrong", freeTries, func(int) error { return i.VerifyPassword(t.Context(), "anna", "wrong") }},
		"codes":                {"second.wrong", freeTries, func(n int) error { return i.CheckSecond("anna", fmt.Sprint("wrong", n), "here") }},
	} {
		var counts map[string]int
		if name == "codes" {
			// All of them have looked at the limit before the first one is looked at.
			done := make(chan struct{})
			if err := st.Update(func(*store.Tx) error {
				begun := make(chan struct{}, 40)
				go func() {
					counts = burst(40, func(n int) error { begun <- struct{}{}; return row.ask(n) })
					close(done)
				}()
				for range cap(begun) {
					<-begun
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			<-done
		} else {
			counts = burst(40, row.ask)
		}
		if counts[row.said] != row.free || counts["login.locked"] != 40-row.free {
			t.Errorf("%s: got %v, want %d that were looked at and the rest locked", name, counts, row.free)
		}
	}
}

func TestRightSignInsAtOnceCostNobodyAPause(t *testing.T) {
	i, _, _ := claimed(t)
	for n := range freeTries - 1 {
		if _, err := i.Login(t.Context(), "anna", "wrong", "here"); code(err) != "login.refused" {
			t.Fatalf("try %d: %v", n+1, err)
		}
	}
	counts := burst(addressTries+5, func(int) error { _, err := i.Login(t.Context(), "anna", good, "here"); return err })
	if len(counts) != 1 || counts[""] != addressTries+5 {
		t.Errorf("right passwords from one address at once: %v", counts)
	}
	counts = burst(3*freeTries, func(int) error { return i.VerifyPassword(t.Context(), "anna", good) })
	if len(counts) != 1 || counts[""] != 3*freeTries {
		t.Errorf("right present passwords at once: %v", counts)
	}
	if len(i.lockout.tries) != 1 || i.lockout.tries[triedOf("login here")].count != freeTries-1 {
		t.Errorf("%d keys are remembered, want the address with its %d failures", len(i.lockout.tries), freeTries-1)
	}
}

func TestATryWaitsForThoseUnderWayAndGivesUpWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockout(time.Now)
		first, err := l.begin(t.Context(), "key", 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.begin(ctx, "key", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a try beside one that may be the last: %v", err)
		}
		second := make(chan error, 1)
		go func() {
			a, err := l.begin(t.Context(), "key", 1)
			if err == nil {
				a.end()
			}
			second <- err
		}()
		synctest.Wait()
		first.end()
		if err := <-second; err != nil {
			t.Errorf("after that one was given up: %v", err)
		}
		third, err := l.begin(t.Context(), "key", 1)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := l.begin(t.Context(), "key", 1)
			second <- err
		}()
		synctest.Wait()
		if wait := third.failed(); wait != firstPause {
			t.Errorf("the pause is %s, want %s", wait, firstPause)
		}
		third.end() // has ended
		if err := <-second; code(err) != "login.locked" {
			t.Errorf("after that one failed: %v", err)
		}
		if f := l.tries[triedOf("key")]; f.underWay != 0 || f.count != 1 {
			t.Errorf("remembered: %+v", f)
		}
	})
}

func TestWhatWasTypedForANameIsNotRemembered(t *testing.T) {
	i, _, _ := claimed(t)
	i.Login(t.Context(), strings.Repeat("a password ", 1000), "wrong", "here")
	if len(i.lockout.tries) != 2 || strings.Contains(fmt.Sprint(i.lockout.tries), "a password") {
		t.Error("the memory of failures holds names as they were typed")
	}
}

// TestWhatIsTriedNowIsNotForgotten: room is made by forgetting what nobody tries at the moment.
func TestWhatIsTriedNowIsNotForgotten(t *testing.T) {
	l := newLockout(time.Now)
	a, err := l.begin(t.Context(), "key", 1)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 * maxRemembered {
		l.failed(fmt.Sprint(n), 1)
	}
	if a.failed(); l.wait("key") == 0 {
		t.Error("a failure was lost because there were many others meanwhile")
	}
}
