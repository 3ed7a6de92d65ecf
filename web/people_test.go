package web_test

import (
	"net/http"
	"strings"
	"testing"

	"riparo/store"
	"riparo/web/api"
)

// TestProgramsKeepAccounts: what the console does to accounts, the API does by the same
// words and under the same rights, and tells no secret.
func TestProgramsKeepAccounts(t *testing.T) {
	h := newHouse(t, true).claimed()
	c, ctx := h.client(store.Administrator), t.Context()
	if err := c.AddUser(ctx, api.NewUser{Name: "Carla", Password: password, Role: store.Operator}); err != nil {
		t.Fatal(err)
	}
	u, err := c.User(ctx, "carla")
	if err != nil || u.Name != "Carla" || u.Role != store.Operator || !u.MustChange || u.Disabled {
		t.Errorf("a new account: %+v, %v", u, err)
	}
	h.add("ugo", store.Viewer)
	b := h.browser()
	if got := b.post("/login", "name", "ugo", "password", password); got.status != http.StatusSeeOther {
		t.Fatalf("sign-in: got %d", got.status)
	}
	b.secondOn()
	sessions, err := c.Sessions(ctx)
	if err != nil || len(sessions) != 1 || sessions[0].User != "ugo" {
		t.Fatalf("sessions %+v, %v", sessions, err)
	}
	if err := c.EndSession(ctx, sessions[0].ID); err != nil {
		t.Error(err)
	}
	if got := b.get("/machines"); got.status != http.StatusSeeOther {
		t.Errorf("after the session was ended: got %d, want 303 to the sign-in", got.status)
	}
	for _, step := range []struct {
		change api.UserChange
		want   func(api.User) bool
	}{
		{api.UserChange{Kind: api.UserRole, Role: store.RecoveryOperator}, func(u api.User) bool { return u.Role == store.RecoveryOperator && u.Codes }},
		{api.UserChange{Kind: api.UserSecond}, func(u api.User) bool { return !u.Codes }},
		{api.UserChange{Kind: api.UserDisable}, func(u api.User) bool { return u.Disabled }},
		{api.UserChange{Kind: api.UserEnable}, func(u api.User) bool { return !u.Disabled }},
		{api.UserChange{Kind: api.UserPassword, Password: "sette gatti sul tetto rosso"}, func(u api.User) bool { return u.MustChange }},
	} {
		if err := c.ChangeUser(ctx, "ugo", step.change); err != nil {
			t.Errorf("%s: %v", step.change.Kind, err)
		}
		if u, err := c.User(ctx, "ugo"); err != nil || !step.want(u) {
			t.Errorf("after %s: %+v, %v", step.change.Kind, u, err)
		}
	}
	if err := c.ChangeUser(ctx, "ugo", api.UserChange{Kind: api.UserRemove}); err != nil {
		t.Error(err)
	}
	if list, err := c.Users(ctx); err != nil || len(list) != 2 {
		t.Errorf("accounts after one was removed: %+v, %v", list, err)
	}
	if _, err := c.User(ctx, "ugo"); !strings.Contains(err.Error(), "not found") {
		t.Errorf("an account that was removed: %v", err)
	}
	program := h.browser()
	secret, _, err := h.identity.CreateToken(user, "ci", store.Administrator, 0)
	if err != nil {
		t.Fatal(err)
	}
	program.header.Set("Authorization", "Bearer "+secret)
	for _, path := range []string{"/api/v1/users", "/api/v1/users/carla", "/api/v1/sessions", "/api/v1/sign-in"} {
		if got := program.get(path); got.status != http.StatusOK || strings.Contains(got.body, "argon2") || strings.Contains(got.body, "password_hash") {
			t.Errorf("%s: got %d and %s", path, got.status, got.body)
		}
	}
	if _, err := h.client(store.RecoveryOperator).Users(ctx); err == nil {
		t.Error("a recovery operator sees the accounts")
	}
}

// TestWhoNeedsASecondFactorDoesNothingWithoutIt: neither pages nor the API, until there
// is one; then everything, at once.
func TestWhoNeedsASecondFactorDoesNothingWithoutIt(t *testing.T) {
	h := newHouse(t, true).claimed()
	operator, viewer, admin := h.signedIn(store.Operator), h.signedIn(store.Viewer), h.signedIn("")
	if got := admin.post("/settings/second-factor", "role", "operator"); got.status != http.StatusOK || !strings.Contains(got.body, "Kept.") {
		t.Fatalf("the rule: got %d", got.status)
	}
	if got := admin.get("/settings/users"); !strings.Contains(got.body, `value="operator" checked`) {
		t.Error("the rule is not shown as it is")
	}
	for path, want := range map[string]int{"/": 303, "/machines": 303, "/live": 303, "/account": 200, "/api/v1/machines": 401} {
		got := operator.get(path)
		if got.status != want || want == 303 && got.header.Get("Location") != "/account" {
			t.Errorf("%s: got %d to %q, want %d", path, got.status, got.header.Get("Location"), want)
		}
	}
	if got := operator.post("/machines/m-4f7c21aa/pause"); got.status != http.StatusSeeOther || got.header.Get("Location") != "/account" || len(h.appliance.asked) != 0 {
		t.Errorf("a verb: got %d to %q, and %d were asked for", got.status, got.header.Get("Location"), len(h.appliance.asked))
	}
	if got := operator.get("/account"); !strings.Contains(got.body, "Set up a second factor first.") {
		t.Error("the account does not say what to do")
	}
	if got := viewer.get("/machines"); got.status != http.StatusOK {
		t.Errorf("a role that the rule leaves alone: got %d", got.status)
	}
	operator.secondOn()
	if got := operator.get("/machines"); got.status != http.StatusOK {
		t.Errorf("with a second factor: got %d, want 200", got.status)
	}
	c := h.client(store.Administrator)
	if rule, err := c.SecondRule(t.Context()); err != nil || len(rule.Roles) != 1 || rule.Roles[0] != store.Operator {
		t.Errorf("the rule is %+v, %v", rule, err)
	}
	if err := c.SaveSecondRule(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := c.SaveSecondRule(t.Context(), []store.Role{"king"}); err == nil {
		t.Error("a rule about a role that there is not was kept")
	}
}
