package web_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"riparo/store"
)

var (
	secretShown   = regexp.MustCompile(`id="secret" tabindex="0">([A-Z2-7 ]+)<`)
	recoveryShown = regexp.MustCompile(`<li><code>([A-Z2-7-]{19})</code></li>`)
)

// secondOn turns one-time codes on with plain forms and gives the secret and the
// recovery codes. The code of now is used up.
func (b *browser) secondOn() (string, []string) {
	b.Helper()
	if got := b.post("/account/second/begin", "old", password); got.status != http.StatusSeeOther || got.header.Get("Location") != "/account/second" {
		b.Fatalf("begin: got %d to %q", got.status, got.header.Get("Location"))
	}
	page := b.get("/account/second")
	secret := strings.ReplaceAll(secretShown.FindStringSubmatch(page.body)[1], " ", "")
	if !strings.Contains(page.body, `src="data:image/png;base64,`) {
		b.Error("the secret is not shown as a picture")
	}
	got := b.post("/account/second", "code", b.code(secret, 0))
	var codes []string
	for _, m := range recoveryShown.FindAllStringSubmatch(got.body, -1) {
		codes = append(codes, m[1])
	}
	if got.status != http.StatusOK || len(codes) != 10 {
		b.Fatalf("confirm: got %d with %d recovery codes", got.status, len(codes))
	}
	return secret, codes
}

// code is what a program for one-time codes shows, ahead steps from now.
func (b *browser) code(secret string, ahead int) string {
	b.Helper()
	c, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(ahead)*30*time.Second))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func TestAStolenPasswordIsNotEnough(t *testing.T) {
	h := newHouse(t, true).claimed()
	b, elsewhere := h.signedIn(""), h.signedIn("")
	if got := b.post("/account/second/begin", "old", "wrong"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("begin with a wrong password: got %d, want 422", got.status)
	}
	if got := b.get("/account/second"); got.status != http.StatusSeeOther {
		t.Errorf("the secret without a begin: got %d", got.status)
	}
	b.post("/account/second/begin", "old", password)
	if got := b.post("/account/second", "code", "000000"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "code is not right") {
		t.Errorf("a wrong first code: got %d, want 422 and the same offer", got.status)
	}
	secret, codes := b.secondOn()
	if got := elsewhere.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("a session from before: got %d, want 303", got.status)
	}
	for _, path := range []string{"/account", "/account/second"} {
		if body := b.get(path).body; strings.Contains(body, codes[0]) || strings.Contains(body, secret) {
			t.Errorf("%s shows a secret again", path)
		}
	}

	thief := h.browser()
	got := thief.post("/login", "name", user, "password", password, "next", "/machines")
	if got.status != http.StatusSeeOther || got.header.Get("Location") != "/login/second?next=%2Fmachines" {
		t.Fatalf("the password alone: got %d to %q", got.status, got.header.Get("Location"))
	}
	for _, path := range []string{"/", "/machines", "/account", "/settings/users"} {
		if got := thief.get(path); got.status != http.StatusSeeOther || !strings.HasPrefix(got.header.Get("Location"), "/login") {
			t.Errorf("%s between the steps: got %d", path, got.status)
		}
	}
	if got := thief.get("/api/v1/machines"); got.status != http.StatusUnauthorized {
		t.Errorf("the API between the steps: got %d, want 401", got.status)
	}
	if _, status := thief.dial("/", nil); status != http.StatusUnauthorized {
		t.Errorf("the live socket between the steps: got %d, want 401", status)
	}
	if got := thief.post("/account/second/remove", "old", password); got.status != http.StatusSeeOther {
		t.Errorf("turning it off between the steps: got %d", got.status)
	}
	for range 5 {
		if got := thief.post("/login/second", "code", "000000"); got.status != http.StatusUnprocessableEntity {
			t.Errorf("a guess: got %d, want 422", got.status)
		}
	}
	if got := thief.post("/login/second", "code", thief.code(secret, 1)); got.status != http.StatusTooManyRequests {
		t.Errorf("the right code after five guesses: got %d, want 429", got.status)
	}
	if u, err := h.identity.User(user); err != nil || u.Second == nil {
		t.Errorf("the second factor is gone: %v", err)
	}
}

func TestASecondStepSignsInOnce(t *testing.T) {
	h := newHouse(t, true).claimed()
	secret, codes := h.signedIn("").secondOn()
	b := h.browser()
	if got := b.get("/login/second"); got.status != http.StatusSeeOther || got.header.Get("Location") != "/login" {
		t.Errorf("the second step without the first: got %d", got.status)
	}
	if got := b.post("/login/second", "code", b.code(secret, 1)); got.status != http.StatusSeeOther || got.header.Get("Location") != "/login" {
		t.Errorf("a code without a password: got %d to %q", got.status, got.header.Get("Location"))
	}
	first := b.post("/login", "name", user, "password", password).header.Get("Set-Cookie")
	code := b.code(secret, 1)
	got := b.post("/login/second", "code", code, "next", "//evil.example")
	if got.status != http.StatusSeeOther || got.header.Get("Location") != "/" || got.header.Get("Set-Cookie") == "" || strings.SplitN(got.header.Get("Set-Cookie"), ";", 2)[0] == strings.SplitN(first, ";", 2)[0] {
		t.Errorf("the second step: got %d to %q; want the overview, in a session with a new name", got.status, got.header.Get("Location"))
	}
	if got := b.get("/"); got.status != http.StatusOK {
		t.Errorf("after both steps: got %d", got.status)
	}
	again := h.browser()
	again.post("/login", "name", user, "password", password)
	if got := again.post("/login/second", "code", code); got.status != http.StatusUnprocessableEntity {
		t.Errorf("the same code again: got %d, want 422", got.status)
	}
	if got := again.post("/login/second", "code", codes[0]); got.status != http.StatusSeeOther || got.header.Get("Location") != "/" {
		t.Errorf("a recovery code: got %d", got.status)
	}
	if got := again.get("/account"); !strings.Contains(got.body, "9 recovery codes left") {
		t.Error("the account does not tell how many recovery codes are left")
	}
	if got := again.post("/account/second/codes", "old", password); len(recoveryShown.FindAllString(got.body, -1)) != 10 {
		t.Errorf("new recovery codes: got %d", got.status)
	}
	if got := again.post("/account/second/remove", "old", "wrong"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("turned off with a wrong password: got %d", got.status)
	}
	if got := again.post("/account/second/remove", "old", password); got.status != http.StatusOK || !strings.Contains(got.body, "codes are off") {
		t.Errorf("turned off: got %d", got.status)
	}
	plain := h.browser()
	if got := plain.post("/login", "name", user, "password", password); got.header.Get("Location") != "/" {
		t.Errorf("a sign-in afterwards leads to %q", got.header.Get("Location"))
	}
}

func TestAnAdministratorHelpsSomebodyWhoLostTheTelephone(t *testing.T) {
	h := newHouse(t, true).claimed()
	carla := h.signedIn(store.Operator)
	carla.secondOn()
	anna := h.signedIn("")
	page := anna.get("/settings/users/operator")
	if !strings.Contains(page.body, "/settings/users/operator/second") {
		t.Fatal("the page does not offer to remove the second factor")
	}
	if got := anna.post("/settings/users/operator/second"); got.status != http.StatusOK {
		t.Fatalf("removed: got %d", got.status)
	}
	b := h.browser()
	if got := b.post("/login", "name", "operator", "password", password); got.header.Get("Location") != "/" {
		t.Errorf("a sign-in afterwards leads to %q", got.header.Get("Location"))
	}
	if got := anna.post("/settings/users/" + user + "/disable"); got.status != http.StatusConflict || !strings.Contains(got.body, "your own account") {
		t.Errorf("closing one's own account: got %d", got.status)
	}
}

func TestAFirstPasswordIsGoodForChoosingAnother(t *testing.T) {
	h := newHouse(t, true).claimed()
	anna := h.signedIn("")
	if got := anna.post("/settings/users", "name", "bruno", "role", "administrator", "password", password); got.status != http.StatusSeeOther {
		t.Fatalf("added: got %d", got.status)
	}
	b := h.browser()
	b.post("/login", "name", "bruno", "password", password)
	for _, path := range []string{"/", "/machines", "/settings/users", "/account/second"} {
		if got := b.get(path); got.status != http.StatusSeeOther || got.header.Get("Location") != "/account" {
			t.Errorf("%s with a first password: got %d to %q, want /account", path, got.status, got.header.Get("Location"))
		}
	}
	if got := b.post("/machines/m-4f7c21aa/pause"); got.header.Get("Location") != "/account" || len(h.appliance.asked) > 0 {
		t.Error("a first password moves machines")
	}
	if got := b.get("/api/v1/machines"); got.status != http.StatusUnauthorized {
		t.Errorf("the API with a first password: got %d, want 401", got.status)
	}
	if _, status := b.dial("/", nil); status == http.StatusSwitchingProtocols {
		t.Error("a first password opens the live socket")
	}
	if got := b.get("/account"); got.status != http.StatusOK || !strings.Contains(got.body, "Choose your own password first") {
		t.Errorf("the account: got %d", got.status)
	}
	if got := b.post("/account/password", "old", password, "password", "an own calm sentence", "again", "an own calm sentence"); got.status != http.StatusOK {
		t.Errorf("the change: got %d", got.status)
	}
	if got := b.get("/"); got.status != http.StatusOK {
		t.Errorf("afterwards: got %d", got.status)
	}
}

func TestAccountsAreChangedByForm(t *testing.T) {
	h := newHouse(t, true).claimed()
	carla := h.signedIn(store.Operator)
	anna := h.signedIn("")
	base := "/settings/users/operator"
	if got := anna.post(base+"/role", "role", "viewer"); got.status != http.StatusOK || !strings.Contains(got.body, "role was changed") {
		t.Fatalf("another role: got %d", got.status)
	}
	if got := carla.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("the session with the old role: got %d", got.status)
	}
	lines := h.lines()
	if last := lines[len(lines)-1]; last.Object != "operator" || last.Before != "role=operator" || last.After != "role=viewer" {
		t.Errorf("the audit log says %+v: want what changed", last)
	}
	for _, row := range []struct {
		deed, field, value string
		want               int
	}{{"role", "role", "emperor", 409}, {"reset", "password", "short", 409}, {"reset", "password", "another calm sentence", 200}, {"disable", "", "", 200}, {"enable", "", "", 200}, {"disable", "", "", 200}} {
		if got := anna.post(base+"/"+row.deed, row.field, row.value); got.status != row.want {
			t.Errorf("%s %s: got %d, want %d", row.deed, row.value, got.status, row.want)
		}
	}
	if got := h.browser().post("/login", "name", "operator", "password", "another calm sentence"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a closed account signs in: %d", got.status)
	}
	if page := anna.get("/settings/users"); !strings.Contains(page.body, "Closed") {
		t.Error("the list does not say that the account is closed")
	}
	if got := anna.post(base + "/remove"); got.status != http.StatusSeeOther {
		t.Errorf("removed: got %d", got.status)
	}
	if got := anna.get(base); got.status != http.StatusNotFound {
		t.Errorf("the page of a removed account: got %d", got.status)
	}
}

func TestSessionsAreSeenAndEnded(t *testing.T) {
	h := newHouse(t, true).claimed()
	anna, elsewhere, carla := h.signedIn(""), h.browser(), h.signedIn(store.Operator)
	elsewhere.header.Set("User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Gecko Firefox/150.0")
	elsewhere.post("/login", "name", user, "password", password)
	page := anna.get("/account")
	end := regexp.MustCompile(`/account/sessions/[0-9a-f]{64}/end`)
	if !strings.Contains(page.body, "Firefox · Windows") || len(end.FindAllString(page.body, -1)) != 1 || !strings.Contains(page.body, "This one") {
		t.Fatal("the account does not show the two sessions")
	}
	if got := carla.post(end.FindString(page.body)); got.status != http.StatusNotFound || elsewhere.get("/").status != http.StatusOK {
		t.Errorf("carla ends a session of anna's: got %d", got.status)
	}
	socket, _ := elsewhere.dial("/", nil)
	socket.until("need attention")
	if got := anna.post(end.FindString(page.body)); got.status != http.StatusSeeOther {
		t.Errorf("ended: got %d", got.status)
	}
	if got := elsewhere.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("the ended session: got %d, want 303", got.status)
	}
	for {
		if _, err := socket.frame(); err != nil {
			if !strings.Contains(err.Error(), "4401") {
				t.Errorf("its live socket ends with %v, want 4401", err)
			}
			break
		}
	}
	all := regexp.MustCompile(`/settings/sessions/[0-9a-f]{64}/end`).FindAllString(anna.get("/settings/users").body, -1)
	if len(all) != 1 {
		t.Fatalf("the administrator sees %d sessions of others, want 1", len(all))
	}
	anna.post(all[0])
	if got := carla.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("carla's session, ended: got %d", got.status)
	}
}

func TestAPasswordIsMeasuredWithoutScriptAndNothingIsKept(t *testing.T) {
	h := newHouse(t, true)
	b := h.browser()
	page := b.get("/setup")
	claim, estimate := strings.Index(page.body, "Claim and sign in"), strings.Index(page.body, `formaction="/password/estimate" formtarget="_blank"`)
	if estimate < 0 || claim > estimate {
		t.Error("the claim has no estimate that works without script, or the Enter key asks for it instead of claiming")
	}
	for password, want := range map[string]string{"password1234": "Guessed quickly", "a calm sentence": "Strong"} {
		got := b.post("/password/estimate", "password", password, "name", "anna")
		if got.status != http.StatusOK || !strings.Contains(got.body, want) || !strings.Contains(got.body, "<meter") || strings.Contains(got.body, password) {
			t.Errorf("%s: got %d; want %q and not the password", password, got.status, want)
		}
	}
	h.claimed()
	if got := b.post("/password/estimate", "password", "x"); got.status != http.StatusSeeOther {
		t.Errorf("a stranger measures on our time: got %d, want 303", got.status)
	}
	if got := h.signedIn("").post("/password/estimate", "password", "password1234"); !strings.Contains(got.body, "Guessed quickly") {
		t.Errorf("somebody signed in: got %d", got.status)
	}
}
