package web

import (
	"net/http"
	"slices"
	"strconv"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// roles in the order in which they are offered.
var roles = []store.Role{store.Viewer, store.Auditor, store.Operator, store.RecoveryOperator, store.Administrator}

func roleChoices(w *view.Words, selected store.Role) []view.Choice {
	var choices []view.Choice
	for _, role := range roles {
		choices = append(choices, view.Choice{Value: string(role), Text: w.Named("role", string(role)), Selected: role == selected})
	}
	return choices
}

// usersPage is how many accounts, and how many sessions, a page lists.
const usersPage = 100

func userHref(name string) string { return "/settings/users/" + pathSegment(name) }

// users is the page of all accounts and all sessions.
func (k *Console) users(v visit) (built, error) {
	return k.usersWith(v, func(*view.Users) {})
}

func (k *Console) usersWith(v visit, say func(*view.Users)) (built, error) {
	w := v.words
	u := view.Users{Now: v.now, Roles: roleChoices(w, store.Viewer), MinLength: strconv.Itoa(minPassword)}
	all, err := k.Identity.Users()
	if err != nil {
		return built{}, err
	}
	at := func(page, sessions string) string {
		return address("/settings/users", "page", page, "sessions", sessions)
	}
	turned, sessions := v.query.Get("page"), v.query.Get("sessions")
	from, to := pageOf(turned, len(all), usersPage)
	u.Prior, u.Next = turns(from, to, len(all), usersPage, func(page string) string { return at(page, sessions) })
	for _, each := range all[from:to] {
		row := view.UserRow{Name: each.Name, Role: w.Named("role", string(each.Role)), Href: userHref(each.Name), Login: each.LastLogin,
			Self: each.Name == v.user.Name, Disabled: each.Disabled, Second: each.Second != nil || len(each.Passkeys) > 0}
		if each.Source != "" {
			row.From = w.Named("source", each.Source)
		}
		u.Rows = append(u.Rows, row)
	}
	if u.Sessions, err = k.sessionRows(v, "", k.Identity.Sessions().Token(v.ctx), "/settings/sessions/"); err != nil {
		return built{}, err
	}
	count := len(u.Sessions)
	from, to = pageOf(sessions, count, usersPage)
	u.Sessions = u.Sessions[from:to]
	u.SessionsPrior, u.SessionsNext = turns(from, to, count, usersPage, func(page string) string { return at(turned, page) + "#sessions" })
	rule, err := k.Identity.SecondRule()
	if err != nil {
		return built{}, err
	}
	for _, role := range roles {
		u.Rule = append(u.Rule, view.Choice{Value: string(role), Text: w.Named("role", string(role)), Selected: slices.Contains(rule, role)})
	}
	say(&u)
	return built{title: w.T("users.title"), place: "settings", body: view.UsersPage(u)}, nil
}

func (k *Console) addUser(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	name, role := r.PostFormValue("name"), store.Role(r.PostFormValue("role"))
	if err := k.Appliance.AddUser(r.Context(), whoOf(r), name, r.PostFormValue("password"), role); err != nil {
		b, failed := k.usersWith(v, func(u *view.Users) {
			u.Problem, u.Name, u.Roles = k.problem(v, err), name, roleChoices(v.words, role)
		})
		if failed != nil {
			k.fail(w, r, failed)
			return
		}
		b.status = http.StatusUnprocessableEntity
		k.print(w, v, b)
		return
	}
	audited(r, name, nil, map[string]any{"role": role})
	k.back(w, r, "/settings/users")
}

// userPage is one account, for administrators.
func (k *Console) userPage(v visit) (built, error) {
	return k.userWith(v, nil)
}

func (k *Console) userWith(v visit, message *view.Message) (built, error) {
	w := v.words
	user, err := k.Identity.User(v.id)
	if err != nil {
		return built{}, err
	}
	u := view.User{Now: v.now, Name: user.Name, Base: userHref(user.Name), Self: user.Name == v.user.Name, Local: user.Source == "", Disabled: user.Disabled,
		Second: user.Second != nil || len(user.Passkeys) > 0, Roles: roleChoices(w, user.Role), MinLength: strconv.Itoa(minPassword), Message: message}
	login := view.Fact{Label: w.T("users.login"), Value: w.T("never")}
	if !user.LastLogin.IsZero() {
		login.Value = w.Short(user.LastLogin, v.now)
	}
	second := w.T("second.off")
	if u.Second {
		second = w.T("second.on")
	}
	from := w.T("source.here")
	if user.Source != "" {
		from = w.Named("source", user.Source)
	}
	u.Facts = []view.Fact{{Label: w.T("role"), Value: w.Named("role", string(user.Role))}, {Label: w.T("users.known"), Value: from}, {Label: w.T("second.title"), Value: second},
		{Label: w.T("users.created"), Value: w.Short(user.Created, v.now)}, login}
	if u.Sessions, err = k.sessionRows(v, user.Name, k.Identity.Sessions().Token(v.ctx), "/settings/sessions/"); err != nil {
		return built{}, err
	}
	return built{title: user.Name, place: "settings", body: view.UserPage(u)}, nil
}

// userAct does something to an account, not to one's own, and shows it again.
func (k *Console) userAct(kind, done string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := k.visitOf(r)
		user, err := k.Identity.User(v.id)
		if err == nil && user.Name == v.user.Name {
			err = ownAccount()
		}
		if err == nil {
			err = k.Appliance.ChangeUser(r.Context(), whoOf(r), user.Name, api.UserChange{Kind: kind, Role: store.Role(r.PostFormValue("role")), Password: r.PostFormValue("password")})
		}
		message, status := &view.Message{Tone: view.OK, Cause: v.words.T(done)}, 0
		if err != nil {
			if isMissing(err) {
				k.fail(w, r, err)
				return
			}
			message, status = k.problem(v, err), http.StatusConflict
		} else if after, err := k.Identity.User(user.Name); err == nil {
			audited(r, user.Name, accountFacts(user), accountFacts(after))
		} else if isMissing(err) { // it was removed
			audited(r, user.Name, accountFacts(user), nil)
			k.back(w, r, "/settings/users")
			return
		}
		b, err := k.userWith(v, message)
		if err != nil {
			k.fail(w, r, err)
			return
		}
		b.status = status
		k.print(w, v, b)
	}
}

// accountFacts are what of an account is told in the audit log.
func accountFacts(u store.User) map[string]any {
	return map[string]any{"role": u.Role, "disabled": u.Disabled, "second": u.Second != nil, "passkeys": len(u.Passkeys), "must_change": u.MustChange}
}

func (k *Console) userActs() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /settings/users/{name}/role":    k.userAct(api.UserRole, "users.role-done"),
		"POST /settings/users/{name}/disable": k.userAct(api.UserDisable, "users.disable-done"),
		"POST /settings/users/{name}/enable":  k.userAct(api.UserEnable, "users.enable-done"),
		"POST /settings/users/{name}/reset":   k.userAct(api.UserPassword, "users.reset-done"),
		"POST /settings/users/{name}/second":  k.userAct(api.UserSecond, "users.second-done"),
		"POST /settings/users/{name}/remove":  k.userAct(api.UserRemove, "users.second-done"),
		"POST /settings/users":                k.addUser,
		"POST /settings/second-factor":        k.saveSecondRule,
	}
}

// saveSecondRule keeps which roles have to have a second factor.
func (k *Console) saveSecondRule(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	var wanted []store.Role
	for _, role := range r.PostForm["role"] {
		wanted = append(wanted, store.Role(role))
	}
	before, err := k.Identity.SecondRule()
	if err == nil {
		err = k.Appliance.SaveSecondRule(r.Context(), whoOf(r), wanted)
	}
	message, status := &view.Message{Tone: view.OK, Cause: v.words.T("second-rule.done")}, 0
	if err != nil {
		message, status = k.problem(v, err), http.StatusConflict
	} else {
		audited(r, "", before, wanted)
	}
	b, err := k.usersWith(v, func(u *view.Users) { u.RuleSaid = message })
	if err != nil {
		k.fail(w, r, err)
		return
	}
	b.status = status
	k.print(w, v, b)
}

// endSession ends anybody's session.
func (k *Console) endSession(w http.ResponseWriter, r *http.Request) {
	name, err := k.Identity.EndSession(r.PathValue("id"), "")
	audited(r, name, nil, nil)
	k.onward(w, r, "/settings/users#sessions", err)
}

func ownAccount() error {
	return &replication.Problem{Code: "user.own", Cause: "this is your own account", Effect: "nothing was done", Action: "ask another administrator, or see Account for what you can change yourself", Remedy: replication.Stop}
}
