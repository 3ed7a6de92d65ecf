package identity

import (
	"strings"
	"testing"
	"time"

	"riparo/store"
)

// session begins one for a user, as the console does.
func session(t *testing.T, i *Identity, c *clock, cookie, name string) {
	t.Helper()
	data, err := sessionCodec{}.Encode(c.Now().Add(lifetime), map[string]any{SessionUser: name, SessionAddress: "192.0.2.7", SessionAgent: "Firefox", SessionBegan: c.Now().Format(time.RFC3339)})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.sessions.Commit(cookie, data, c.Now().Add(idleTimeout)); err != nil {
		t.Fatal(err)
	}
}

func TestAnApplianceIsNeverLeftWithoutAnAdministrator(t *testing.T) {
	i, st, _ := claimed(t)
	add := func(name string, role store.Role, change func(*store.User)) {
		t.Helper()
		if err := i.AddUser(t.Context(), "anna", name, good, role); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Change(st, store.Users, name, func(u *store.User) error { change(u); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	// None of these is one that counts when the directory is down.
	add("bruno", store.Administrator, func(u *store.User) { u.Disabled = true })
	add("carla", store.Administrator, func(u *store.User) { u.Source = store.SourceLDAP })
	add("dario", store.RecoveryOperator, func(u *store.User) {})
	for name, act := range map[string]func() error{
		"removed":       func() error { return i.RemoveUser("carla", "anna") },
		"closed":        func() error { return i.SetDisabled("carla", "anna", true) },
		"made a viewer": func() error { return i.SetRole("carla", "anna", store.Viewer) },
	} {
		if err := act(); code(err) != "user.last" {
			t.Errorf("the last administrator of our own was %s: %v", name, err)
		}
	}
	if err := i.SetRole("anna", "dario", store.Administrator); err != nil {
		t.Fatal(err)
	}
	if err := i.SetDisabled("dario", "anna", true); err != nil {
		t.Errorf("one of two administrators: %v", err)
	}
	if err := i.SetDisabled("dario", "anna", false); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := i.SetRole("anna", "dario", "emperor"); code(err) != "role.unknown" {
		t.Errorf("an unknown role: %v", err)
	}
}

func TestWhatHappensToAnAccountEndsItsSessions(t *testing.T) {
	for name, act := range map[string]func(i *Identity) error{
		"another role": func(i *Identity) error { return i.SetRole("anna", "bruno", store.Operator) },
		"closed":       func(i *Identity) error { return i.SetDisabled("anna", "bruno", true) },
		"reset":        func(i *Identity) error { return i.ResetPassword(t.Context(), "anna", "bruno", "another calm sentence") },
		"removed":      func(i *Identity) error { return i.RemoveUser("anna", "bruno") },
	} {
		i, _, c := claimed(t)
		if err := i.AddUser(t.Context(), "anna", "bruno", good, store.Viewer); err != nil {
			t.Fatal(err)
		}
		session(t, i, c, "his", "bruno")
		session(t, i, c, "hers", "anna")
		if err := act(i); err != nil {
			t.Fatal(err)
		}
		if i.SessionAlive("his") || !i.SessionAlive("hers") {
			t.Errorf("%s: his session holds %v, hers %v; want hers only", name, i.SessionAlive("his"), i.SessionAlive("hers"))
		}
	}
}

func TestAClosedAccountCannotSignInAndLooksLikeAWrongPassword(t *testing.T) {
	i, _, _ := claimed(t)
	if err := i.AddUser(t.Context(), "anna", "bruno", good, store.Viewer); err != nil {
		t.Fatal(err)
	}
	if u, err := i.Login(t.Context(), "bruno", good, "here"); err != nil || !u.MustChange {
		t.Errorf("the first sign-in: %+v, %v; want one that has to choose a password", u, err)
	}
	if err := i.ChangePassword(t.Context(), "bruno", good, "an own calm sentence"); err != nil {
		t.Fatal(err)
	}
	if u, _ := i.User("bruno"); u.MustChange {
		t.Error("a chosen password has to be chosen again")
	}
	if err := i.SetDisabled("anna", "bruno", true); err != nil {
		t.Fatal(err)
	}
	_, closed := i.Login(t.Context(), "bruno", "an own calm sentence", "here")
	_, wrong := i.Login(t.Context(), "bruno", "wrong", "here")
	if code(closed) != "login.refused" || closed.Error() != wrong.Error() {
		t.Errorf("a closed account says %v, a wrong password %v", closed, wrong)
	}
	if err := i.SetDisabled("anna", "bruno", false); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Login(t.Context(), "bruno", "an own calm sentence", "here"); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := i.ResetPassword(t.Context(), "anna", "bruno", "short"); code(err) != "password.short" {
		t.Errorf("a reset to a short one: %v", err)
	}
	if err := i.VerifyPassword(t.Context(), "bruno", "wrong"); code(err) != "password.wrong" {
		t.Errorf("a wrong password of somebody signed in: %v", err)
	}
}

func TestSessionsAreListedAndEndedByTheirOwners(t *testing.T) {
	i, _, c := claimed(t)
	if err := i.AddUser(t.Context(), "anna", "bruno", good, store.Viewer); err != nil {
		t.Fatal(err)
	}
	session(t, i, c, "old", "anna")
	c.pass(10 * time.Minute)
	session(t, i, c, "new", "anna")
	session(t, i, c, "his", "bruno")
	own, err := i.SessionList("ANNA", "new")
	if err != nil || len(own) != 2 || !own[0].Current || own[1].Current || own[0].Address != "192.0.2.7" || own[0].Agent != "Firefox" {
		t.Fatalf("anna's sessions: %+v, %v", own, err)
	}
	if all, err := i.SessionList("", ""); err != nil || len(all) != 3 {
		t.Errorf("all sessions: %d, %v", len(all), err)
	}
	if got := own[1]; !got.Used.Equal(got.Began) || !got.Ends.Equal(got.Began.Add(lifetime)) {
		t.Errorf("the old one: %+v", got)
	}
	if strings.Contains(own[0].ID, "new") {
		t.Error("the list gives cookies away")
	}
	if _, err := i.EndSession(own[1].ID, "bruno"); !missing(err) {
		t.Errorf("bruno ended a session of anna's: %v", err)
	}
	if name, err := i.EndSession(own[1].ID, "anna"); err != nil || name != "anna" || i.SessionAlive("old") {
		t.Errorf("anna ended hers: %q, %v, alive %v", name, err, i.SessionAlive("old"))
	}
	his, _ := i.SessionList("bruno", "")
	if name, err := i.EndSession(his[0].ID, ""); err != nil || name != "bruno" || i.SessionAlive("his") {
		t.Errorf("an administrator ended his: %q, %v", name, err)
	}
	c.pass(idleTimeout)
	if left, _ := i.SessionList("", ""); len(left) != 0 {
		t.Errorf("sessions that have ended are listed: %+v", left)
	}
}

func TestAPasswordIsMeasuredByWhatItWithstands(t *testing.T) {
	for _, row := range []struct {
		name, password string
		enough         bool
	}{
		{"anna", "", false}, {"anna", "password1234", false}, {"anna", "qwertyuiop12", false}, {"anna", "Summer2026!!", false}, {"anna", "riparo-riparo", false},
		{"annamaria-rossi", "annamaria-rossi1", false}, {"anna", strings.Repeat("ab", 20), false}, {"anna", strings.Repeat("password", 100), false},
		{"anna", good, true}, {"anna", "dodici lettere però", true}, {"anna", "correct horse battery staple", true}, {"anna", "x7#kQ9!vB2&mZ4", true},
	} {
		s := Measure(row.name, row.password)
		if s.Enough != row.enough || s.Score < 0 || s.Score > 4 || (s.Score == 4) != s.Enough {
			t.Errorf("Measure(%q, %.30q) = %+v: want enough %v", row.name, row.password, s, row.enough)
		}
	}
}
