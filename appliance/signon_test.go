package appliance_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"riparo/appliance"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// openIDService describes itself as one that speaks OpenID Connect does.
func openIDService(t *testing.T) (issuer, ca string) {
	t.Helper()
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/openid-configuration" {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/a", "token_endpoint": s.URL + "/t", "jwks_uri": s.URL + "/k",
			"id_token_signing_alg_values_supported": []string{"RS256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}})
	}))
	t.Cleanup(s.Close)
	return s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// TestOneAdministratorDoesNotMakeAnotherByASignInService: a group that gives the role is
// as good as an account with it.
func TestOneAdministratorDoesNotMakeAnotherByASignInService(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	ctx, anna := t.Context(), api.Who{Name: "token ci", Person: "anna"}
	issuer, ca := openIDService(t)
	settings := func(change func(o *api.OpenID)) api.OpenID {
		o := api.OpenID{Enabled: true, Issuer: issuer, ClientID: "riparo", Address: "https://dr.example:9443", NameClaim: "preferred_username", RoleClaim: "groups", CA: ca,
			Roles: []api.RoleRule{{Value: "dr-operators", Role: store.Operator}}, Secret: "the first secret of all"}
		if change != nil {
			change(&o)
		}
		return o
	}
	kept := func() api.OpenID {
		t.Helper()
		var k struct{ Settings api.OpenID }
		err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
			_, err := tx.Setting("signon.openid", &k)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return k.Settings
	}
	th.administrators("anna", "ugo")
	if err := th.a.SaveOpenID(ctx, anna, settings(nil)); err != nil {
		t.Fatalf("operators by a service: %v; that is one person's matter", err)
	}
	admins := func(o *api.OpenID) {
		o.Roles = append(o.Roles, api.RoleRule{Value: "dr-admins", Role: store.Administrator})
	}
	broken := settings(func(o *api.OpenID) { admins(o); o.Issuer = "https://127.0.0.1:1" })
	if p := replication.AsProblem(th.a.SaveOpenID(ctx, anna, broken)); p == nil || p.Code != "signon.unreachable" {
		t.Errorf("a service that does not answer: %v; nothing is asked for that would be refused", p)
	}
	for _, step := range []struct {
		name   string
		change func(o *api.OpenID)
		says   string // what the second administrator reads; empty: one is enough
	}{
		{"a group of administrators", admins, "in dr-admins (changed: roles)"},
		{"the same again", admins, ""},
		{"another word on the button", func(o *api.OpenID) { admins(o); o.Label = "Company" }, ""},
		{"another secret", func(o *api.OpenID) { admins(o); o.Secret = "a second secret" }, ""},
		{"another claim decides", func(o *api.OpenID) { admins(o); o.RoleClaim = "mine" }, "in dr-admins (changed: role_claim)"},
		{"another group", func(o *api.OpenID) { o.Roles = []api.RoleRule{{Value: "mine", Role: store.Administrator}} }, "in mine (changed: role_claim, roles)"},
		{"turned off", func(o *api.OpenID) {
			o.Enabled, o.Roles = false, []api.RoleRule{{Value: "mine", Role: store.Administrator}}
		}, "nobody an administrator"},
		{"changed while it is off", func(o *api.OpenID) { o.Enabled = false; admins(o) }, ""},
		{"turned on with a group of administrators", admins, "in dr-admins (changed: enabled)"},
	} {
		before := kept()
		wanted := settings(step.change)
		err := th.a.SaveOpenID(ctx, anna, wanted)
		if step.says == "" {
			if err != nil {
				t.Errorf("%s: %v; that is one person's matter", step.name, err)
			}
			continue
		}
		needsApproval(t, err)
		if now := kept(); now.RoleClaim != before.RoleClaim || len(now.Roles) != len(before.Roles) || now.Enabled != before.Enabled {
			t.Fatalf("%s was done before it was approved: %+v", step.name, now)
		}
		r := th.request()
		if !strings.Contains(r.Text, issuer) || !strings.Contains(r.Text, step.says) || strings.Contains(r.SignOn.Settings, "secret of all") || len(r.SignOn.Sealed) == 0 {
			t.Errorf("%s is asked for with %q, settings %s, sealed %d bytes", step.name, r.Text, r.SignOn.Settings, len(r.SignOn.Sealed))
		}
		if err := th.a.Approve(ctx, "anna", r.ID); err == nil {
			t.Fatalf("%s was approved by who asked for it", step.name)
		}
		if err := th.a.Approve(ctx, "ugo", r.ID); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if now := kept(); now.RoleClaim != wanted.RoleClaim || len(now.Roles) != len(wanted.Roles) || now.Enabled != wanted.Enabled {
			t.Errorf("after %s was approved: %+v", step.name, now)
		}
	}
}
