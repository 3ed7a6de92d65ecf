package web

import (
	"encoding/base64"
	"net/http"
	"time"

	"riparo/replication"
	"riparo/web/api"
	"riparo/web/view"
)

// Keys of a session. While only the password was checked, a session has a pending
// name and no user: it is nobody's yet.
const (
	sessionPending = "pending"       // whose password was right
	sessionSince   = "pending-since" // RFC 3339
	sessionOffer   = "second-offer"  // the sealed secret of one-time codes that are being set up
)

// pendingTime is how long the second step of a sign-in may take.
const pendingTime = 5 * time.Minute

// await keeps the first step of a sign-in until the second one is done.
func (k *Console) await(w http.ResponseWriter, r *http.Request, name, next string) {
	sessions := k.Identity.Sessions()
	if err := sessions.Clear(r.Context()); err != nil {
		k.fail(w, r, err)
		return
	}
	if err := sessions.RenewToken(r.Context()); err != nil {
		k.fail(w, r, err)
		return
	}
	sessions.Put(r.Context(), sessionPending, name)
	sessions.Put(r.Context(), sessionSince, k.Now().UTC().Format(time.RFC3339))
	k.back(w, r, address("/login/second", "next", next))
}

// pending is whose password was right a moment ago, or "".
func (k *Console) pending(r *http.Request) string {
	sessions := k.Identity.Sessions()
	since, err := time.Parse(time.RFC3339, sessions.GetString(r.Context(), sessionSince))
	if err != nil || k.Now().Sub(since) > pendingTime {
		return ""
	}
	return sessions.GetString(r.Context(), sessionPending)
}

// secondStep is the page that asks for a code.
func (k *Console) secondStep(w http.ResponseWriter, r *http.Request) {
	name := k.pending(r)
	if name == "" {
		k.back(w, r, "/login")
		return
	}
	v := k.visitOf(r)
	k.entry(w, v, 0, v.words.T("second.login"), view.SecondLoginPage(view.SecondLogin{Name: name, Next: local(r.FormValue("next"))}))
}

// finishSignIn checks the code and begins the session.
func (k *Console) finishSignIn(w http.ResponseWriter, r *http.Request) {
	name, next := k.pending(r), local(r.PostFormValue("next"))
	if name == "" {
		k.back(w, r, "/login")
		return
	}
	api.AuditOf(r.Context()).Object = name
	if err := k.Identity.CheckSecond(name, r.PostFormValue("code"), addressOf(r)); err != nil {
		v := k.visitOf(r)
		k.entry(w, v, k.signInStatus(w, err), v.words.T("second.login"), view.SecondLoginPage(view.SecondLogin{Name: name, Next: next, Problem: k.problem(v, err)}))
		return
	}
	k.enter(w, r, name, next)
}

// entryStatus is the HTTP status of what a stranger asked for in vain. Whoever has tried
// too often is told how long to wait, too.
func entryStatus(w http.ResponseWriter, err error) int {
	if !api.TooMany(err) {
		return http.StatusUnprocessableEntity
	}
	api.RetryAfter(w.Header(), err)
	return http.StatusTooManyRequests
}

// signInStatus is the HTTP status of a refused sign-in.
func (k *Console) signInStatus(w http.ResponseWriter, err error) int {
	switch replication.AsProblem(err).Code {
	case "signon.unreachable":
		return http.StatusServiceUnavailable
	case "internal":
		k.Logger.Error("a sign-in went wrong", "error", err)
		return http.StatusInternalServerError
	}
	return entryStatus(w, err)
}

// beginSecond asks for the password again and makes an offer.
func (k *Console) beginSecond(w http.ResponseWriter, r *http.Request) {
	name := userOf(r).Name
	if err := k.Identity.VerifyPassword(r.Context(), name, r.PostFormValue("old")); err != nil {
		k.showAccount(w, r, http.StatusUnprocessableEntity, func(v visit, a *view.Account) { a.SecondSay = k.problem(v, err) })
		return
	}
	offer, err := k.Identity.OfferSecond(name)
	if err != nil {
		k.fail(w, r, err)
		return
	}
	k.Identity.Sessions().Put(r.Context(), sessionOffer, offer.Sealed)
	k.back(w, r, "/account/second")
}

// secondSetup shows the offer.
func (k *Console) secondSetup(w http.ResponseWriter, r *http.Request) {
	k.showOffer(w, r, 0, nil)
}

func (k *Console) showOffer(w http.ResponseWriter, r *http.Request, status int, problem error) {
	v := k.visitOf(r)
	offer, err := k.Identity.ShowSecond(v.user.Name, k.Identity.Sessions().GetString(r.Context(), sessionOffer))
	if err != nil { // none is being set up
		k.back(w, r, "/account")
		return
	}
	s := view.SecondSetup{Image: "data:image/png;base64," + base64.StdEncoding.EncodeToString(offer.Image), Secret: offer.Secret, URL: offer.URL}
	if problem != nil {
		s.Problem = k.problem(v, problem)
	}
	k.print(w, v, built{title: v.words.T("second.setup"), place: "account", status: status, body: view.SecondPage(s)})
}

// confirmSecond turns one-time codes on and shows the recovery codes, which are
// nowhere else.
func (k *Console) confirmSecond(w http.ResponseWriter, r *http.Request) {
	name := userOf(r).Name
	codes, err := k.Identity.ConfirmSecond(name, k.Identity.Sessions().GetString(r.Context(), sessionOffer), r.PostFormValue("code"))
	if err != nil {
		k.showOffer(w, r, k.signInStatus(w, err), err)
		return
	}
	k.Identity.Sessions().Remove(r.Context(), sessionOffer)
	if err := k.alone(r, name); err != nil {
		k.fail(w, r, err)
		return
	}
	k.showAccount(w, r, 0, func(v visit, a *view.Account) {
		a.Codes = codes
		a.SecondSay = &view.Message{Tone: view.OK, Cause: v.words.T("second.done"), Effect: v.words.T("second.done-text")}
	})
}

// alone ends the other sessions of an account and renames this one: they were begun
// before what has just been changed. If this one was ended while the request was under
// way, it gets no new name.
func (k *Console) alone(r *http.Request, name string) error {
	sessions := k.Identity.Sessions()
	token := sessions.Token(r.Context())
	if err := k.Identity.EndSessions(name, token); err != nil {
		return err
	}
	if !k.Identity.SessionAlive(token) {
		return sessions.Destroy(r.Context())
	}
	return sessions.RenewToken(r.Context())
}

// newCodes replaces the recovery codes.
func (k *Console) newCodes(w http.ResponseWriter, r *http.Request) {
	name := userOf(r).Name
	err := k.Identity.VerifyPassword(r.Context(), name, r.PostFormValue("old"))
	var codes []string
	if err == nil {
		codes, err = k.Identity.NewRecoveryCodes(name)
	}
	if err != nil {
		k.showAccount(w, r, http.StatusUnprocessableEntity, func(v visit, a *view.Account) { a.SecondSay = k.problem(v, err) })
		return
	}
	k.showAccount(w, r, 0, func(_ visit, a *view.Account) { a.Codes = codes })
}

// removeSecond turns one-time codes off.
func (k *Console) removeSecond(w http.ResponseWriter, r *http.Request) {
	name := userOf(r).Name
	err := k.Identity.VerifyPassword(r.Context(), name, r.PostFormValue("old"))
	if err == nil {
		err = k.Identity.RemoveSecond(name, name)
	}
	if err != nil {
		k.showAccount(w, r, http.StatusUnprocessableEntity, func(v visit, a *view.Account) { a.SecondSay = k.problem(v, err) })
		return
	}
	k.showAccount(w, r, 0, func(v visit, a *view.Account) {
		a.SecondSay = &view.Message{Tone: view.OK, Cause: v.words.T("second.removed")}
	})
}
