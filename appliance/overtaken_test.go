package appliance_test

import (
	"slices"
	"strings"
	"testing"

	"riparo/appliance"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// set changes an account behind everybody's back.
func (th *theater) set(name string, change func(u *store.User)) {
	th.Helper()
	if _, err := store.Change(th.a.Rooms().Store, store.Users, name, func(u *store.User) error { change(u); return nil }); err != nil {
		th.Fatal(err)
	}
}

// overtaken holds that what was approved was not done, and that the request says why.
func (th *theater) overtaken(what string, err error) {
	th.Helper()
	if p := replication.AsProblem(err); p == nil || p.Code != "approval.overtaken" || p.Action == "" {
		th.Errorf("%s: got %v, want that it was overtaken", what, err)
	}
	if r := lastRequest(th.T, th); r.State != store.ApprovalObsolete || r.Result == "" {
		th.Errorf("%s left the request %s, %q", what, r.State, r.Result)
	}
}

// TestAClosedAdministratorIsNoSecondPairOfEyes: its account decides nothing and asks for
// nothing, and nobody waits for it.
func TestAClosedAdministratorIsNoSecondPairOfEyes(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	th.administrators("anna", "ugo", "eva")
	ctx, anna := t.Context(), api.Who{Name: "anna", Person: "anna"}
	closed := func(u *store.User) { u.Disabled = true }
	if err := th.a.AddUser(ctx, anna, "carla", "sette gatti sul tetto rosso", store.Operator); err != nil {
		t.Fatal(err)
	}
	promote := api.UserChange{Kind: api.UserRole, Role: store.Administrator}
	needsApproval(t, th.a.ChangeUser(ctx, anna, "carla", promote))
	th.set("eva", closed)
	explained(t, th.a.Approve(ctx, "eva", th.request().ID), "not a person")
	explained(t, th.a.Refuse(ctx, "eva", th.request().ID), "not a person")
	explained(t, th.a.ChangeUser(ctx, api.Who{Name: "token ci", Person: "eva"}, "carla", promote), "not a person")
	if err := th.a.Refuse(ctx, "ugo", th.request().ID); err != nil {
		t.Fatal(err)
	}
	th.set("ugo", closed)
	if err := th.a.ChangeUser(ctx, anna, "carla", promote); err != nil || th.account("carla").Role != store.Administrator {
		t.Errorf("with one administrator whose account is open: %v", err)
	}
	if len(th.events("approval.alone")) != 1 {
		t.Error("it is not told that it was done by one")
	}
	th.set("carla", closed)
	if err := th.a.AddUser(ctx, anna, "dora", "sette gatti sul tetto rosso", store.Administrator); err != nil {
		t.Errorf("a second administrator beside one whose account is open: %v", err)
	}
}

// TestRightsAreNotGivenToAnAccountThatChangedHands: who asks for an account to be given
// more does not make it their own before that is approved.
func TestRightsAreNotGivenToAnAccountThatChangedHands(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	th.administrators("anna", "ugo", "eva")
	ctx, anna := t.Context(), api.Who{Name: "anna", Person: "anna"}
	const word = "sette gatti sul tetto rosso"
	if err := th.a.AddUser(ctx, anna, "carla", word, store.Operator); err != nil {
		t.Fatal(err)
	}
	promote, reset := api.UserChange{Kind: api.UserRole, Role: store.Administrator}, api.UserChange{Kind: api.UserPassword, Password: word}
	ask := func(name string, c api.UserChange) string {
		t.Helper()
		needsApproval(t, th.a.ChangeUser(ctx, anna, name, c))
		return th.request().ID
	}
	id := ask("carla", promote)
	if r := th.request(); !strings.HasSuffix(r.Text, "administrator (no own password yet)") {
		t.Errorf("it is asked for with %q", r.Text)
	}
	if err := th.a.ChangeUser(ctx, anna, "carla", reset); err != nil {
		t.Fatal(err)
	}
	th.overtaken("a reset password", th.a.Approve(ctx, "ugo", id))
	th.set("carla", func(u *store.User) { u.MustChange = false }) // signed in, and chose another
	for name, change := range map[string]func(u *store.User){
		"another password": func(u *store.User) { u.PasswordHash = "x" },
		"a passkey":        func(u *store.User) { u.Passkeys = []store.Passkey{{ID: []byte("p")}} },
		"one-time codes":   func(u *store.User) { u.Second = &store.SecondFactor{Secret: []byte("s")} },
	} {
		id := ask("carla", promote)
		if r := th.request(); !strings.Contains(r.Text, "administrator (password reset on ") || !strings.HasSuffix(r.Text, " by anna)") {
			t.Errorf("it is asked for with %q", r.Text)
		}
		th.set("carla", change)
		th.overtaken(name, th.a.Approve(ctx, "ugo", id))
	}
	if u := th.account("carla"); u.Role != store.Operator {
		t.Fatalf("carla is %s", u.Role)
	}
	id = ask("carla", api.UserChange{Kind: api.UserSecond})
	if err := th.a.ChangeUser(ctx, anna, "carla", reset); err != nil {
		t.Fatal(err)
	}
	th.overtaken("the second factor of an account with a new password", th.a.Approve(ctx, "ugo", id))
	if u := th.account("carla"); u.Second == nil {
		t.Error("the second factor was taken")
	}

	// A code that was used is no change; and nobody escapes by a new password.
	id = ask("carla", promote)
	th.set("carla", func(u *store.User) { u.Second.Step, u.Second.Recovery = 7, nil })
	if err := th.a.Approve(ctx, "ugo", id); err != nil || th.account("carla").Role != store.Administrator {
		t.Errorf("an account that is as it was: %v", err)
	}
	id = ask("eva", api.UserChange{Kind: api.UserDisable})
	th.set("eva", func(u *store.User) { u.PasswordHash = "y" })
	if err := th.a.Approve(ctx, "ugo", id); err != nil || !th.account("eva").Disabled {
		t.Errorf("an account that is to be closed: %v", err)
	}
}

// TestARuleIsEasedAsItWasReadAndForEveryRoleThatIsNamed: one that was made stricter
// meanwhile stays so.
func TestARuleIsEasedAsItWasReadAndForEveryRoleThatIsNamed(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	th.administrators("anna", "ugo")
	ctx, anna := t.Context(), api.Who{Name: "anna", Person: "anna"}
	save := func(roles ...store.Role) error { return th.a.SaveSecondRule(ctx, anna, roles) }
	if err := save(store.Viewer, store.Operator, store.Administrator); err != nil {
		t.Fatal(err)
	}
	needsApproval(t, save(store.Operator))
	r := th.request()
	if r.Text != "let the roles viewer, administrator sign in without a second factor" {
		t.Errorf("it is asked for with %q", r.Text)
	}
	stricter := []store.Role{store.Viewer, store.Auditor, store.Operator, store.Administrator}
	if err := save(stricter...); err != nil {
		t.Fatal(err)
	}
	th.overtaken("a stricter rule", th.a.Approve(ctx, "ugo", r.ID))
	var rule store.SecondRule
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error { _, err := tx.Setting(store.SettingSecond, &rule); return err })
	if err != nil || !slices.Equal(rule.Roles, stricter) {
		t.Errorf("the rule is %v, %v; want %v", rule.Roles, err, stricter)
	}
}

// TestASignInServiceThatChangedMeanwhileStaysSo: what was approved a day after it was
// asked for does not undo what one person may change alone.
func TestASignInServiceThatChangedMeanwhileStaysSo(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	th.administrators("anna", "ugo")
	ctx, anna, ugo := t.Context(), api.Who{Name: "anna", Person: "anna"}, api.Who{Name: "ugo", Person: "ugo"}
	issuer, ca := openIDService(t)
	plain := api.OpenID{Enabled: true, Issuer: issuer, ClientID: "riparo", Address: "https://dr.example:9443", NameClaim: "preferred_username", RoleClaim: "groups", CA: ca,
		Roles: []api.RoleRule{{Value: "dr-operators", Role: store.Operator}}, Secret: "the first secret of all"}
	if err := th.a.SaveOpenID(ctx, anna, plain); err != nil {
		t.Fatal(err)
	}
	wanted := plain
	wanted.Roles = append(slices.Clone(plain.Roles), api.RoleRule{Value: "dr-admins", Role: store.Administrator})
	labeled, secret := plain, plain
	labeled.Label, labeled.Secret = "Company", ""
	secret.Label, secret.Secret = "Company", "a second secret"
	// In this order, for each differs from what the one before it has left.
	for _, other := range []struct {
		what     string
		settings api.OpenID
	}{{"another word on the button", labeled}, {"another secret", secret}} {
		needsApproval(t, th.a.SaveOpenID(ctx, anna, wanted))
		if err := th.a.SaveOpenID(ctx, ugo, other.settings); err != nil {
			t.Fatal(err)
		}
		th.overtaken(other.what, th.a.Approve(ctx, "ugo", th.request().ID))
		var kept struct{ Settings api.OpenID }
		err := th.a.Rooms().Store.View(func(tx *store.Tx) error { _, err := tx.Setting("signon.openid", &kept); return err })
		if err != nil || kept.Settings.Label != "Company" || len(kept.Settings.Roles) != 1 {
			t.Errorf("after %s: %+v, %v", other.what, kept.Settings, err)
		}
	}
}

// TestWhatWasApprovedOfAMachineIsNotDoneWhenItHasChanged: points that were pinned since
// stay, and a machine that is being tested is not taken from under the test.
func TestWhatWasApprovedOfAMachineIsNotDoneWhenItHasChanged(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	var points []replication.RecoveryPoint
	th.until("there are three points", func() (so bool) {
		var err error
		points, err = th.a.Points(t.Context(), th.id)
		return err == nil && len(points) >= 3
	})
	slices.Reverse(points)
	ctx, anna, ugo := t.Context(), api.Who{Name: "anna", Person: "anna"}, api.Who{Name: "ugo", Person: "ugo"}
	th.administrators("anna", "ugo")
	wanted := []replication.PointID{points[0].ID, points[1].ID}
	if err := th.a.Pin(ctx, anna, th.id, wanted[0], ""); err != nil {
		t.Fatal(err)
	}
	needsApproval(t, th.a.DeletePoints(ctx, anna, th.id, wanted))
	r := th.request()
	if !slices.Equal(r.Protected, wanted[:1]) {
		t.Errorf("protected then: %v, want %v", r.Protected, wanted[:1])
	}
	if err := th.a.Pin(ctx, ugo, th.id, wanted[1], "evidence"); err != nil {
		t.Fatal(err)
	}
	th.overtaken("a point that was pinned", th.a.Approve(ctx, "ugo", r.ID))
	if m := th.machine(); len(m.Pins) != 2 {
		t.Errorf("pins %+v, want both", m.Pins)
	}
	// Asked for anew, as it is now, it is done.
	needsApproval(t, th.a.DeletePoints(ctx, anna, th.id, wanted))
	if err := th.a.Approve(ctx, "ugo", th.request().ID); err != nil || len(th.machine().Pins) != 0 {
		t.Errorf("as it is now: %v", err)
	}

	if err := th.a.Pin(ctx, anna, th.id, points[2].ID, ""); err != nil {
		t.Fatal(err)
	}
	_, err := th.a.Ask(ctx, api.Request{Actor: "anna", Person: "anna", Verb: lifecycle.DisableProtection, Machine: th.id, Confirm: "WEB01"})
	needsApproval(t, err)
	th.ask(api.Request{Verb: lifecycle.TestFailover})
	explained(t, th.a.Approve(ctx, "ugo", th.request().ID), "test failover is not cleaned up")
	if m := th.machine(); m.State != lifecycle.Protected || m.Drill != lifecycle.DrillRunning {
		t.Errorf("the machine is %s, drill %q", m.State, m.Drill)
	}
	th.ask(api.Request{Verb: lifecycle.CleanupTest, Notes: "seen"})
}
