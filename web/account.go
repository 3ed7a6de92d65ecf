package web

import (
	"fmt"
	"net/http"
	"strconv"

	"riparo/web/api"
	"riparo/web/view"
)

// fewCodes is when an account is told to make new recovery codes.
const fewCodes = 3

// account is the page of one's own account.
func (k *Console) account(v visit) (built, error) {
	return k.accountWith(v, "", func(visit, *view.Account) {})
}

func (k *Console) accountWith(v visit, cookie string, say func(visit, *view.Account)) (built, error) {
	w := v.words
	user, err := k.Identity.User(v.user.Name) // as it is after the form
	if err != nil {
		return built{}, err
	}
	a := view.Account{Now: v.now, Name: user.Name, Role: w.Named("role", string(user.Role)), Local: user.Source == "", MustChange: user.MustChange,
		MinLength: strconv.Itoa(minPassword)}
	if a.MustSecond, err = k.Identity.NeedsSecond(user); err != nil {
		return built{}, err
	}
	if user.Source != "" {
		a.From = w.T("account.from", "Service", w.Named("source", user.Source))
	}
	for _, l := range view.Languages {
		a.Languages = append(a.Languages, view.Choice{Value: l, Text: view.LanguageName(l), Selected: l == w.Lang()})
	}
	if s := user.Second; s != nil {
		a.Second, a.Since, a.Left, a.FewLeft = true, s.Since, w.N("second.left", len(s.Recovery)), len(s.Recovery) <= fewCodes
	}
	a.Passkeys = passkeyRows(user)
	if cookie == "" {
		cookie = k.Identity.Sessions().Token(v.ctx)
	}
	if a.Sessions, err = k.sessionRows(v, user.Name, cookie, "/account/sessions/"); err != nil {
		return built{}, err
	}
	say(v, &a)
	return built{title: w.T("account.title"), place: "account", body: view.AccountPage(a)}, nil
}

// showAccount prints the account with the outcome of a form.
func (k *Console) showAccount(w http.ResponseWriter, r *http.Request, status int, say func(visit, *view.Account)) {
	v := k.visitOf(r)
	b, err := k.accountWith(v, k.Identity.Sessions().Token(r.Context()), say)
	if err != nil {
		k.fail(w, r, err)
		return
	}
	b.status = status
	k.print(w, v, b)
}

func (k *Console) changePassword(w http.ResponseWriter, r *http.Request) {
	name := userOf(r).Name
	err := mismatch(r.PostFormValue("password"), r.PostFormValue("again"))
	if err == nil {
		err = k.Identity.ChangePassword(r.Context(), name, r.PostFormValue("old"), r.PostFormValue("password"))
	}
	if err != nil {
		k.showAccount(w, r, http.StatusUnprocessableEntity, func(v visit, a *view.Account) { a.Password = k.problem(v, err) })
		return
	}
	// Whoever knew the old password is signed out everywhere else.
	if err := k.alone(r, name); err != nil {
		k.fail(w, r, err)
		return
	}
	k.showAccount(w, r, 0, func(v visit, a *view.Account) {
		a.Password = &view.Message{Tone: view.OK, Cause: v.words.T("settings.changed"), Effect: v.words.T("settings.changed-text")}
	})
}

// sessionRows are the sessions of a user, or of all when user is empty. Each is
// ended by a post to base and its ID.
func (k *Console) sessionRows(v visit, user, cookie, base string) ([]view.SessionRow, error) {
	list, err := k.Identity.SessionList(user, cookie)
	var rows []view.SessionRow
	for _, s := range list {
		rows = append(rows, view.SessionRow{ID: s.ID, User: s.User, Address: s.Address, Agent: agentOf(s.Agent), Began: s.Began, Used: s.Used, Current: s.Current, End: base + s.ID + "/end"})
	}
	return rows, err
}

// endOwnSession ends another session of whoever asks.
func (k *Console) endOwnSession(w http.ResponseWriter, r *http.Request) {
	_, err := k.Identity.EndSession(r.PathValue("id"), userOf(r).Name)
	k.onward(w, r, "/account#sessions", err)
}

// estimate says how strong a password is, without keeping or changing anything. It
// is for those who are signed in, and for whoever claims the appliance.
func (k *Console) estimate(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	if v.user == nil {
		if claimed, err := k.Identity.Claimed(); err != nil || claimed {
			k.onward(w, r, "/login", err)
			return
		}
	}
	m := k.Identity.Measure(r.PostFormValue("name"), r.PostFormValue("password"))
	s := view.Strength{Score: m.Score, Enough: m.Enough, Verdict: v.words.T(fmt.Sprintf("password.score-%d", m.Score)),
		Text: v.words.T("password.guesses", "Power", v.words.Number(m.Guesses, 0))}
	k.entry(w, v, 0, v.words.T("password.strength"), view.StrengthPage(s))
}

// audited notes what a form about an account changes.
func audited(r *http.Request, object string, before, after any) {
	note := api.AuditOf(r.Context())
	note.Object = object
	note.Change(before, after)
}
