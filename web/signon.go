package web

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// openIDCookie carries, sealed, what a browser brings back from the sign-in service.
// Lax lets it come along when the service sends the browser back.
const openIDCookie = "__Host-riparo-signon"

// openIDBack is where the service sends people back to.
const openIDBack = "/login/openid/callback"

func (k *Console) carry(w http.ResponseWriter, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{Name: openIDCookie, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
}

// openIDLabel is what the button of the sign-in service says; empty: there is none.
func (k *Console) openIDLabel() (string, error) {
	o, _, err := k.Identity.SignOn()
	if err != nil || !o.Enabled {
		return "", err
	}
	return cmp.Or(o.Label, o.Issuer), nil
}

// beginOpenID sends somebody to the sign-in service.
func (k *Console) beginOpenID(w http.ResponseWriter, r *http.Request) {
	address, carried, err := k.Identity.BeginOpenID(r.Context(), local(r.FormValue("next")))
	if err != nil {
		k.refuseSignIn(w, r, err)
		return
	}
	k.carry(w, carried, 600)
	http.Redirect(w, r, address, http.StatusSeeOther)
}

// finishOpenID takes somebody who comes back.
func (k *Console) finishOpenID(w http.ResponseWriter, r *http.Request) {
	carried := ""
	if c, err := r.Cookie(openIDCookie); err == nil {
		carried = c.Value
	}
	k.carry(w, "", -1)
	user, next, err := k.Identity.FinishOpenID(r.Context(), carried, r.URL.Query(), addressOf(r))
	line := store.AuditLine{Actor: user.Name, Role: user.Role, Address: addressOf(r), Action: "session.begin", Detail: "by OpenID Connect", Outcome: store.AuditDone}
	if err != nil {
		line.Outcome = store.AuditRefused
		if replication.AsProblem(err).Code != "login.locked" && carried != "" {
			k.recordStranger(line)
		}
		k.refuseSignIn(w, r, err)
		return
	}
	k.recordUntold()
	if _, err := k.Audit.Append(line); err != nil {
		k.fail(w, r, err)
		return
	}
	k.enter(w, r, user.Name, local(next))
}

// refuseSignIn shows the sign-in with what went wrong.
func (k *Console) refuseSignIn(w http.ResponseWriter, r *http.Request, err error) {
	v := k.visitOf(r)
	label, failed := k.openIDLabel()
	if failed != nil {
		k.Logger.Error("the sign-in services cannot be read", "error", failed)
	}
	k.entry(w, v, k.signInStatus(w, err), v.words.T("login.title"), view.LoginPage(view.Login{Next: "/", Problem: k.problem(v, err), Service: label}))
}

// signOn is the page of the services that know people.
func (k *Console) signOn(v visit) (built, error) {
	o, d, err := k.Identity.SignOn()
	if err != nil {
		return built{}, err
	}
	return k.signOnWith(v, o, d, nil, nil)
}

func (k *Console) signOnWith(v visit, o api.OpenID, d api.Directory, openID, directory *view.Message) (built, error) {
	s := view.SignOn{
		OpenID: view.OpenIDForm{Enabled: o.Enabled, HasSecret: o.HasSecret, Label: o.Label, Issuer: o.Issuer, ClientID: o.ClientID, Address: o.Address, Back: openIDBack, CA: o.CA,
			Scopes: cmp.Or(strings.Join(o.Scopes, " "), "profile email groups"), NameClaim: cmp.Or(o.NameClaim, "preferred_username"), RoleClaim: cmp.Or(o.RoleClaim, "groups"), Rules: rulesText(o.Roles), Message: openID},
		Directory: view.DirectoryForm{Enabled: d.Enabled, StartTLS: d.StartTLS, HasPassword: d.HasPassword, URL: d.URL, BindDN: d.BindDN, BaseDN: d.BaseDN, GroupBaseDN: d.GroupBaseDN, CA: d.CA,
			Filter:        cmp.Or(d.Filter, "(&(objectCategory=person)(objectClass=user)(sAMAccountName={name}))"),
			NameAttribute: cmp.Or(d.NameAttribute, "sAMAccountName"), GroupFilter: cmp.Or(d.GroupFilter, "(member:1.2.840.113556.1.4.1941:={dn})"), Rules: rulesText(d.Roles), Message: directory},
	}
	return built{title: v.words.T("signon.title"), place: "settings", body: view.SignOnPage(s)}, nil
}

// rulesText writes rules one a line: value = role.
func rulesText(rules []api.RoleRule) string {
	var lines []string
	for _, rule := range rules {
		lines = append(lines, rule.Value+" = "+string(rule.Role))
	}
	return strings.Join(lines, "\n")
}

// readRules reads them. The value may contain the sign: it is a DN at times.
func readRules(text string) ([]api.RoleRule, error) {
	var rules []api.RoleRule
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		at := strings.LastIndex(line, "=")
		if at < 0 {
			return nil, &replication.Problem{Code: "signon.invalid", Cause: fmt.Sprintf("the rule %q = %q gives no role", line, ""), Effect: "nothing was changed", Action: "correct it and save again", Remedy: replication.Stop}
		}
		rules = append(rules, api.RoleRule{Value: strings.TrimSpace(line[:at]), Role: store.Role(strings.TrimSpace(line[at+1:]))})
	}
	return rules, nil
}

func (k *Console) saveOpenID(w http.ResponseWriter, r *http.Request) {
	field := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	rules, err := readRules(r.PostFormValue("rules"))
	o := api.OpenID{Enabled: field("enabled") == "true", Label: field("label"), Issuer: field("issuer"), ClientID: field("client_id"), Address: field("own_address"), Scopes: strings.Fields(r.PostFormValue("scopes")),
		NameClaim: field("name_claim"), RoleClaim: field("role_claim"), Roles: rules, CA: field("ca"), Secret: r.PostFormValue("secret")}
	before, d, failed := k.Identity.SignOn()
	if failed != nil {
		k.fail(w, r, failed)
		return
	}
	if err == nil {
		err = k.Appliance.SaveOpenID(r.Context(), whoOf(r), o)
	}
	o.HasSecret = before.HasSecret || o.Secret != ""
	k.savedSignOn(w, r, o, d, err, before, o, true)
}

func (k *Console) saveDirectory(w http.ResponseWriter, r *http.Request) {
	field := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	rules, err := readRules(r.PostFormValue("rules"))
	d := api.Directory{Enabled: field("enabled") == "true", URL: field("url"), StartTLS: field("start_tls") == "true", BindDN: field("bind_dn"), BaseDN: field("base_dn"), Filter: field("filter"), NameAttribute: field("name_attribute"),
		GroupBaseDN: field("group_base_dn"), GroupFilter: field("group_filter"), Roles: rules, CA: field("ca"), Password: r.PostFormValue("secret")}
	o, before, failed := k.Identity.SignOn()
	if failed != nil {
		k.fail(w, r, failed)
		return
	}
	if err == nil {
		err = k.Appliance.SaveDirectory(r.Context(), whoOf(r), d)
	}
	d.HasPassword = before.HasPassword || d.Password != ""
	k.savedSignOn(w, r, o, d, err, before, d, false)
}

// savedSignOn shows the page with the outcome of one of its forms; what was typed is
// kept, but for secrets.
func (k *Console) savedSignOn(w http.ResponseWriter, r *http.Request, o api.OpenID, d api.Directory, err error, before, after any, openID bool) {
	v := k.visitOf(r)
	said, status := &view.Message{Tone: view.OK, Cause: v.words.T("signon.saved"), Effect: v.words.T("signon.saved-text")}, 0
	if err != nil {
		said, status = k.problem(v, err), http.StatusUnprocessableEntity
	} else {
		api.AuditOf(r.Context()).Change(before, after)
	}
	messages := [2]*view.Message{nil, said}
	if openID {
		messages = [2]*view.Message{said, nil}
	}
	b, err := k.signOnWith(v, o, d, messages[0], messages[1])
	if err != nil {
		k.fail(w, r, err)
		return
	}
	b.status = status
	k.print(w, v, b)
}
