package identity

import (
	"testing"
	"time"

	"riparo/store"
)

// TestATokenStandsByThePersonWhoMadeIt: it may what that person may now, and nothing when
// the account is closed, gone, or somebody else's of the same name.
func TestATokenStandsByThePersonWhoMadeIt(t *testing.T) {
	i, _, c := claimed(t)
	ctx := t.Context()
	if err := i.AddUser(ctx, "anna", "Carla", good, store.Administrator); err != nil {
		t.Fatal(err)
	}
	secret, token, err := i.CreateToken("Carla", "ci", store.Administrator, 0)
	if err != nil || token.By != "Carla" {
		t.Fatalf("the token: %+v, %v", token, err)
	}
	for _, row := range []struct {
		name   string
		change func() error
		role   store.Role // empty: refused
	}{
		{"at first", func() error { return nil }, store.Administrator},
		{"made an operator", func() error { return i.SetRole("anna", "carla", store.Operator) }, store.Operator},
		{"made an administrator again", func() error { return i.SetRole("anna", "carla", store.Administrator) }, store.Administrator},
		{"with a password that was reset", func() error { return i.ResetPassword(ctx, "anna", "carla", good) }, store.Administrator},
		{"closed", func() error { return i.SetDisabled("anna", "carla", true) }, ""},
		{"opened again", func() error { return i.SetDisabled("anna", "carla", false) }, store.Administrator},
		{"removed", func() error { return i.RemoveUser("anna", "carla") }, ""},
		{"another one of the same name", func() error { c.pass(time.Second); return i.AddUser(ctx, "anna", "carla", good, store.Administrator) }, ""},
	} {
		if err := row.change(); err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		c.pass(2 * usedEvery) // so that its use is written, too
		got, err := i.Bearer(secret)
		if row.role == "" {
			if code(err) != "token.person" {
				t.Errorf("%s: got %+v, %v; want it refused", row.name, got, err)
			}
		} else if err != nil || got.Role != row.role {
			t.Errorf("%s: got %s, %v; want %s", row.name, got.Role, err, row.role)
		}
		if _, err := i.Bearer(secret + "A"); code(err) != "token.refused" {
			t.Errorf("%s: a wrong secret was told %v", row.name, err)
		}
	}
	if tokens, err := i.Tokens(); err != nil || len(tokens) != 1 || tokens[0].Role != store.Administrator {
		t.Errorf("what is kept: %+v, %v; a lesser role is not written", tokens, err)
	}
}

// TestATokenMayWhatBothMay: the auditor is beside the order of the others.
func TestATokenMayWhatBothMay(t *testing.T) {
	for _, row := range [][3]store.Role{
		{store.Viewer, store.Administrator, store.Viewer},
		{store.Operator, store.RecoveryOperator, store.Operator},
		{store.RecoveryOperator, store.Operator, store.Operator},
		{store.Administrator, store.RecoveryOperator, store.RecoveryOperator},
		{store.Auditor, store.Operator, store.Viewer},
		{store.Auditor, store.RecoveryOperator, store.Viewer},
		{store.Auditor, store.Viewer, store.Viewer},
		{store.Auditor, store.Auditor, store.Auditor},
		{store.Auditor, store.Administrator, store.Auditor},
		{"emperor", store.Administrator, ""},
	} {
		for _, pair := range [][2]store.Role{{row[0], row[1]}, {row[1], row[0]}} {
			if got := lesser(pair[0], pair[1]); got != row[2] {
				t.Errorf("a token of %q by %q: got %q, want %q", pair[0], pair[1], got, row[2])
			}
		}
	}
}

// TestATokenThatNamesNobodyEndsByItself: those of old name no person, and what such a
// program makes does not either.
func TestATokenThatNamesNobodyEndsByItself(t *testing.T) {
	i, st, _ := claimed(t)
	old, token, err := i.CreateToken("anna", "old", store.Administrator, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Change(st, store.Tokens, token.ID, func(t *store.Token) error { t.By = ""; return nil }); err != nil {
		t.Fatal(err)
	}
	made, token, err := i.CreateToken("token old", "young", store.Operator, 0)
	if err != nil || token.By != "" {
		t.Fatalf("a program's token: %+v, %v", token, err)
	}
	for secret, want := range map[string]store.Role{old: store.Administrator, made: store.Operator} {
		if got, err := i.Bearer(secret); err != nil || got.Role != want {
			t.Errorf("got %+v, %v; want %s", got, err, want)
		}
	}
}

// TestATokenOutlivesAClockThatIsSetBack: an appliance that is claimed before its clock is
// right takes the tokens of its people all the same.
func TestATokenOutlivesAClockThatIsSetBack(t *testing.T) {
	i, _, c := claimed(t)
	c.pass(-2 * time.Hour)
	secret, _, err := i.CreateToken("anna", "ci", store.Operator, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Bearer(secret); err != nil {
		t.Errorf("a token made by a clock that was set right: %v", err)
	}
	c.pass(time.Hour)
	if _, err := i.Bearer(secret); code(err) != "token.refused" {
		t.Errorf("after its hour: %v", err)
	}
}
