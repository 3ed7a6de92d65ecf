package web_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"riparo/web/browsertest"
)

// send posts a form with a file, its fields in their order: "backup" is the file.
func (b *browser) send(fields ...string) reply {
	b.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i+1 < len(fields); i += 2 {
		var err error
		if fields[i] != "backup" {
			err = form.WriteField(fields[i], fields[i+1])
		} else {
			var w io.Writer
			if w, err = form.CreateFormFile("backup", "../../../etc/cron.d/x"); err == nil {
				_, err = io.WriteString(w, fields[i+1])
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	form.Close()
	return b.do("POST", "/setup/restore/backup", &body, form.FormDataContentType())
}

func TestABackupIsRestoredOnTheFirstScreen(t *testing.T) {
	h := newHouse(t, false)
	b := h.browser()
	if got := b.get("/setup"); !strings.Contains(got.body, `href="/setup/restore"`) {
		t.Errorf("the first screen does not lead to a restore:\n%s", got.body)
	}
	if got := b.get("/setup/restore?token=abc"); got.status != http.StatusOK || !strings.Contains(got.body, `enctype="multipart/form-data"`) || !strings.Contains(got.body, `value="abc"`) {
		t.Errorf("the page of the restore: %d\n%s", got.status, got.body)
	}
	got := b.send("token", h.token, "backup", "a backup")
	for _, want := range []string{"Milano 1", "412 KiB", `name="passphrase"`, `value="127.0.0.1"`, `value="` + h.token + `"`} {
		if got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("the backup came: %d without %q\n%s", got.status, want, got.body)
		}
	}
	// A passphrase typed wrong does not send the backup again, nor lose what else was typed.
	got = b.post("/setup/restore", "token", h.token, "passphrase", "wrong-sentence-9", "vault", "/srv/vault", "address", "dr.example")
	for _, want := range []string{"does not open", "Milano 1", `value="/srv/vault"`, `value="dr.example"`} {
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, want) {
			t.Errorf("a wrong passphrase: %d without %q\n%s", got.status, want, got.body)
		}
	}
	if strings.Contains(got.body, "wrong-sentence-9") {
		t.Error("the page shows the passphrase")
	}
	got = b.post("/setup/restore", "token", h.token, "passphrase", password, "vault", "/srv/vault", "address", "dr.example")
	if got.status != http.StatusOK || !strings.Contains(got.body, "Machines: 6, jobs: 9") || !strings.Contains(got.body, "Interrupted jobs: 2; restart or cancel them. API tokens that are good as they were then: 3") || !strings.Contains(got.body, `action="/login"`) {
		t.Errorf("restored: %d\n%s", got.status, got.body)
	}
	last := h.appliance.restored[len(h.appliance.restored)-1]
	if last.Vault != "/srv/vault" || last.Address != "dr.example" {
		t.Errorf("asked for %+v", last)
	}
	// Without a file of its own, a path on this computer.
	file := t.TempDir() + "/copy"
	write(t, file, "a backup")
	for _, row := range []struct{ token, file, passphrase, want string }{
		{"WRONG", file, password, "setup token is not right"},
		{h.token, file + "2", password, "cannot be read"},
		{h.token, file, "wrong-sentence-9", "does not open"},
		{h.token, file, password, "Machines: 6, jobs: 9"},
	} {
		got := b.post("/setup/restore", "token", row.token, "file", row.file, "passphrase", row.passphrase)
		if !strings.Contains(got.body, row.want) || strings.Contains(got.body, row.passphrase) {
			t.Errorf("%+v: got %d\n%s", row, got.status, got.body)
		}
	}
	h.claimed()
	for what, got := range map[string]reply{"the page": b.get("/setup/restore"), "a backup": b.send("token", h.token, "backup", "a backup"),
		"a passphrase": b.post("/setup/restore", "token", h.token, "file", file, "passphrase", password)} {
		if got.status != http.StatusSeeOther {
			t.Errorf("a claimed appliance answers to %s of a restore with %d", what, got.status)
		}
	}
}

// TestGuessingTheSetupTokenIsSlowedDown on every door of the first screen, and by the
// API: 429, and how many seconds to wait. The right token does not help meanwhile.
func TestGuessingTheSetupTokenIsSlowedDown(t *testing.T) {
	h := newHouse(t, false)
	b := h.browser()
	tries := 0
	for ; tries < 40; tries++ {
		if got := b.post("/setup/restore", "token", "WRONG", "file", "/x", "passphrase", password); got.status == http.StatusTooManyRequests {
			break
		} else if got.status != http.StatusUnprocessableEntity {
			t.Fatalf("try %d: got %d, want 422", tries, got.status)
		}
	}
	if tries == 0 || tries == 40 {
		t.Fatalf("slowed down after %d tries", tries)
	}
	for what, got := range map[string]reply{
		"a restore":  b.post("/setup/restore", "token", h.token, "file", "/x", "passphrase", password),
		"a backup":   b.send("token", h.token, "backup", "a backup"),
		"the claim":  b.post("/setup", "token", h.token, "name", user, "password", password, "again", password),
		"by the API": b.do("POST", "/api/v1/setup", strings.NewReader(`{"setup_token":"`+h.token+`","name":"`+user+`","password":"`+password+`"}`), "application/json"),
	} {
		wait, err := strconv.Atoi(got.header.Get("Retry-After"))
		if got.status != http.StatusTooManyRequests || err != nil || wait < 1 {
			t.Errorf("%s: got %d and Retry-After %q, want 429 and some seconds", what, got.status, got.header.Get("Retry-After"))
		}
	}
}

func TestAStrangerSendsNoBackup(t *testing.T) {
	h := newHouse(t, false)
	b := h.browser()
	for _, c := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"a wrong token", []string{"token", "WRONG", "backup", "a backup"}, "setup token is not right"},
		{"no token", []string{"backup", "a backup"}, "no backup came"},
		{"the file before the token", []string{"backup", "a backup", "token", h.token}, "no backup came"},
		{"another field", []string{"token", h.token, "vault", "/", "backup", "a backup"}, "no backup came"},
		{"no file", []string{"token", h.token}, "no backup came"},
		{"a file that is none", []string{"token", h.token, "backup", "PK\x03\x04"}, "is not a backup"},
		{"a token without end", []string{"token", strings.Repeat("A", 1<<20), "backup", "a backup"}, "setup token is not right"},
	} {
		got := b.send(c.fields...)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(strings.ToLower(got.body), c.want) {
			t.Errorf("%s: %d without %q\n%s", c.name, got.status, c.want, got.body)
		}
		if h.appliance.taken != nil {
			t.Fatalf("%s: a backup was taken", c.name)
		}
	}
	for kind, want := range map[string]int{"application/json": http.StatusUnsupportedMediaType, "text/plain": http.StatusUnsupportedMediaType, "application/x-www-form-urlencoded": http.StatusUnprocessableEntity} {
		if got := b.do("POST", "/setup/restore/backup", strings.NewReader(`{"token":"x"}`), kind); got.status != want {
			t.Errorf("%s: got %d, want %d", kind, got.status, want)
		}
	}
	// A large body is for this form alone.
	if got := b.do("POST", "/setup", strings.NewReader(strings.Repeat("a", 1<<20)), "multipart/form-data; boundary=x"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("a large form elsewhere: %d", got.status)
	}
}

// raw is a request written by hand, and how many bytes of its body the console took.
func (h *house) raw(head string, body io.Reader) (answer string, took int64) {
	h.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(h.server.URL, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		h.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(browsertest.Patience))
	if _, err := io.WriteString(c, head); err != nil {
		h.Fatal(err)
	}
	sent := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(c, body)
		sent <- n
	}()
	text := make([]byte, 64)
	n, err := io.ReadAtLeast(c, text, 16)
	if _, timeout := err.(net.Error); timeout { // a broken line may still have brought an answer
		h.Fatalf("no answer: %v", err)
	}
	c.Close()
	return string(text[:n]), <-sent
}

// TestAnEndlessBackupOfAStrangerIsNotRead sends what never ends, without the token.
func TestAnEndlessBackupOfAStrangerIsNotRead(t *testing.T) {
	h := newHouse(t, false)
	const limit = 90 << 20 // what is drained, and what stands in buffers between
	for _, begin := range []string{"", "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n", "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nWRONG\r\n--x\r\nContent-Disposition: form-data; name=\"backup\"; filename=\"x\"\r\n\r\n"} {
		head := fmt.Sprintf("POST /setup/restore/backup HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n", 4<<30)
		answer, took := h.raw(head, io.MultiReader(strings.NewReader(begin), io.LimitReader(zeros{}, 4<<30)))
		if !strings.HasPrefix(answer, "HTTP/1.1 422 ") || took > limit {
			t.Errorf("after %q: took %d bytes, want at most %d, and answered %q", begin, took, limit, answer)
		}
	}
	if h.appliance.taken != nil {
		t.Error("a backup was taken")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestARestoreByKeyboard goes through both forms in a browser.
func TestARestoreByKeyboard(t *testing.T) {
	h := newHouse(t, false)
	c := h.openChrome()
	file := t.TempDir() + "/milano.riparo-backup"
	write(t, file, "a backup")
	c.Visit("/setup/restore")
	c.Until("the page", `document.activeElement.id === "token"`)
	c.Press(h.token)
	c.Do("choose the file", chromedp.SetUploadFiles("#backup", []string{file}))
	c.Leave("the second form", func() { c.Click(`form[enctype] footer button`) })
	c.Until("the passphrase", `document.activeElement.id === "passphrase" && document.body.innerText.includes("Milano 1")`)
	if browsertest.HasAxe() {
		for _, said := range c.Axe() {
			t.Errorf("axe: %s", said)
		}
	}
	c.Leave("the answer", func() { c.Press(password + "\r") })
	c.Until("the end", `document.querySelector('form[action="/login"]') && document.body.innerText.includes("Machines: 6")`)
	if said := c.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}
