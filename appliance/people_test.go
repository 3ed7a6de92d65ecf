package appliance_test

import (
	"strings"
	"testing"

	"riparo/appliance"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// account gives an account as it is, or nil.
func (th *theater) account(name string) *store.User {
	th.Helper()
	var found *store.User
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
		if u, err := tx.Users().Get(name); err == nil {
			found = &u
		}
		return nil
	})
	if err != nil {
		th.Fatal(err)
	}
	return found
}

// TestOneAdministratorDoesNotUnseatAnother: nor make the other's account their own, nor
// a third one.
func TestOneAdministratorDoesNotUnseatAnother(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	th.administrators("anna", "ugo")
	ctx, anna := t.Context(), api.Who{Name: "token ci", Person: "anna"}
	const word = "sette gatti sul tetto rosso"
	if err := th.a.AddUser(ctx, anna, "carla", word, store.Operator); err != nil {
		t.Fatal(err)
	}
	if p := replication.AsProblem(th.a.AddUser(ctx, anna, "eva", word, store.Administrator)); p == nil || p.Code != "user.promote" || th.account("eva") != nil {
		t.Errorf("a third administrator: %v", p)
	}
	if p := replication.AsProblem(th.a.ChangeUser(ctx, anna, "Anna", api.UserChange{Kind: api.UserRemove})); p == nil || p.Code != "user.own" {
		t.Errorf("one's own account: %v", p)
	}
	if p := replication.AsProblem(th.a.ChangeUser(ctx, anna, "ugo", api.UserChange{Kind: api.UserPassword, Password: "short"})); p == nil || p.Code != "password.short" {
		t.Errorf("a short password: %v; nothing is asked for that would be refused", p)
	}
	for _, c := range []struct {
		name   string
		change api.UserChange
		after  func(u *store.User) bool
	}{
		{"carla", api.UserChange{Kind: api.UserRole, Role: store.Administrator}, func(u *store.User) bool { return u.Role == store.Administrator }},
		{"carla", api.UserChange{Kind: api.UserPassword, Password: word}, func(u *store.User) bool { return u.MustChange && strings.HasPrefix(u.PasswordHash, "$argon2id$") }},
		{"carla", api.UserChange{Kind: api.UserSecond}, func(u *store.User) bool { return u.Second == nil }},
		{"carla", api.UserChange{Kind: api.UserDisable}, func(u *store.User) bool { return u.Disabled }},
		{"carla", api.UserChange{Kind: api.UserEnable}, func(u *store.User) bool { return !u.Disabled }},
		{"carla", api.UserChange{Kind: api.UserRole, Role: store.Viewer}, func(u *store.User) bool { return u.Role == store.Viewer }},
	} {
		before := *th.account(c.name)
		needsApproval(t, th.a.ChangeUser(ctx, anna, c.name, c.change))
		if now := *th.account(c.name); now.Role != before.Role || now.Disabled != before.Disabled || now.PasswordHash != before.PasswordHash {
			t.Fatalf("%s was done before it was approved: %+v", c.change.Kind, now)
		}
		r := th.request()
		if err := th.a.Approve(ctx, "anna", r.ID); err == nil {
			t.Fatalf("%s was approved by who asked for it", c.change.Kind)
		}
		if err := th.a.Approve(ctx, "ugo", r.ID); err != nil {
			t.Fatalf("%s: %v", c.change.Kind, err)
		}
		if u := th.account(c.name); u == nil || !c.after(u) {
			t.Errorf("after %s was approved: %+v", c.change.Kind, u)
		}
	}
	// A viewer is one person's matter again, until something of theirs is taken.
	if err := th.a.ChangeUser(ctx, anna, "carla", api.UserChange{Kind: api.UserRole, Role: store.Operator}); err != nil {
		t.Error(err)
	}
	needsApproval(t, th.a.ChangeUser(ctx, anna, "ugo", api.UserChange{Kind: api.UserRemove}))
	if err := th.a.Refuse(ctx, "ugo", th.request().ID); err != nil || th.account("ugo") == nil {
		t.Errorf("after it was refused: %v, %+v", err, th.account("ugo"))
	}
}

// TestARoleIsLetOffItsSecondFactorByTwo: one person makes the rule stricter, two make it
// milder.
func TestARoleIsLetOffItsSecondFactorByTwo(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	th.administrators("anna", "ugo")
	ctx, anna := t.Context(), api.Who{Name: "anna", Person: "anna"}
	rule := func() (r store.SecondRule) {
		err := th.a.Rooms().Store.View(func(tx *store.Tx) error { _, err := tx.Setting(store.SettingSecond, &r); return err })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := th.a.SaveSecondRule(ctx, anna, []store.Role{store.Administrator, store.Operator}); err != nil || len(rule().Roles) != 2 {
		t.Fatalf("a stricter rule: %v, %+v", err, rule())
	}
	needsApproval(t, th.a.SaveSecondRule(ctx, anna, []store.Role{store.Operator}))
	if len(rule().Roles) != 2 {
		t.Fatalf("the rule became %+v before it was approved", rule())
	}
	if err := th.a.Approve(ctx, "ugo", th.request().ID); err != nil || len(rule().Roles) != 1 {
		t.Errorf("after it was approved: %v, %+v", err, rule())
	}
}
