package web

import (
	"encoding/base64"
	"net/http"

	"riparo/store"
	"riparo/web/view"
)

// Passkeys need a script in the browser: it asks here for what it signs and posts
// the answer as a form. All else of the console works without one.

// passkeyCookie carries, sealed, what is being signed in with.
const passkeyCookie = "__Host-riparo-passkey"

// sessionPasskey is the same for a passkey that is being made.
const sessionPasskey = "passkey"

// originOf is the address under which a browser has reached us. Nothing is taken
// from it but what the browser signs itself: see identity.
func originOf(r *http.Request) string { return "https://" + r.Host }

// options answers the script.
func (k *Console) options(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(text)
}

// beginPasskey asks for the password again and gives what the script needs.
func (k *Console) beginPasskey(w http.ResponseWriter, r *http.Request) {
	name := userOf(r).Name
	err := k.Identity.VerifyPassword(r.Context(), name, r.PostFormValue("old"))
	var text []byte
	var carried string
	if err == nil {
		text, carried, err = k.Identity.BeginPasskey(name, originOf(r))
	}
	if err != nil {
		k.showAccount(w, r, http.StatusUnprocessableEntity, func(v visit, a *view.Account) { a.PasskeySay = k.problem(v, err) })
		return
	}
	k.Identity.Sessions().Put(r.Context(), sessionPasskey, carried)
	k.options(w, text)
}

// addPasskey keeps what the browser has made.
func (k *Console) addPasskey(w http.ResponseWriter, r *http.Request) {
	sessions := k.Identity.Sessions()
	carried := sessions.PopString(r.Context(), sessionPasskey)
	err := k.Identity.FinishPasskey(userOf(r).Name, r.PostFormValue("label"), originOf(r), carried, []byte(r.PostFormValue("response")))
	status := 0
	if err != nil {
		status = http.StatusUnprocessableEntity
	}
	k.showAccount(w, r, status, func(v visit, a *view.Account) {
		a.PasskeySay = &view.Message{Tone: view.OK, Cause: v.words.T("passkey.added")}
		if err != nil {
			a.PasskeySay = k.problem(v, err)
		}
	})
}

func (k *Console) removePasskey(w http.ResponseWriter, r *http.Request) {
	k.onward(w, r, "/account#passkeys", k.Identity.RemovePasskey(userOf(r).Name, r.PathValue("id")))
}

// beginPasskeyLogin gives the script what a passkey has to sign.
func (k *Console) beginPasskeyLogin(w http.ResponseWriter, r *http.Request) {
	text, carried, err := k.Identity.BeginPasskeyLogin(originOf(r))
	if err != nil {
		k.refuseSignIn(w, r, err)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: passkeyCookie, Value: carried, Path: "/", MaxAge: 300, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode})
	k.options(w, text)
}

// finishPasskeyLogin signs in whoever's passkey has signed.
func (k *Console) finishPasskeyLogin(w http.ResponseWriter, r *http.Request) {
	carried := ""
	if c, err := r.Cookie(passkeyCookie); err == nil {
		carried = c.Value
	}
	http.SetCookie(w, &http.Cookie{Name: passkeyCookie, Path: "/", MaxAge: -1, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode})
	user, err := k.Identity.FinishPasskeyLogin(originOf(r), carried, []byte(r.PostFormValue("response")), addressOf(r))
	if err != nil {
		k.refuseSignIn(w, r, err)
		return
	}
	k.enter(w, r, user.Name, local(r.PostFormValue("next")))
}

// passkeyRows are the passkeys of an account.
func passkeyRows(user store.User) []view.PasskeyRow {
	var rows []view.PasskeyRow
	for _, p := range user.Passkeys {
		id := base64.RawURLEncoding.EncodeToString(p.ID)
		rows = append(rows, view.PasskeyRow{Name: p.Name, Host: p.Host, Created: p.Created, Used: p.LastUsed, Remove: "/account/passkeys/" + id + "/remove"})
	}
	return rows
}
