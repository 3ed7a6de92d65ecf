//go:build unix

package appliance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/store"
	"riparo/web/api"
)

const sentence = "a calm sentence"

// stranger is a browser in front of a console that it does not know yet.
type stranger struct {
	*testing.T
	url    string
	client *http.Client
}

func newStranger(t *testing.T, url string) *stranger {
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar, Timeout: guestLimit, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(client.CloseIdleConnections)
	return &stranger{t, strings.TrimSuffix(url, "/"), client}
}

func (s *stranger) read(r *http.Response, err error) (int, string) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.Fatal(err)
	}
	return r.StatusCode, string(text)
}

func (s *stranger) get(path string) (int, string) {
	s.Helper()
	return s.read(s.client.Get(s.url + path))
}

func (s *stranger) post(path string, pairs ...string) (int, string) {
	s.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return s.read(s.client.PostForm(s.url+path, form))
}

// send sends a backup as the form of the first screen does.
func (s *stranger) send(token string, backup []byte) (int, string) {
	s.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	form.WriteField("token", token)
	file, err := form.CreateFormFile("backup", "../../state.db")
	if err != nil {
		s.Fatal(err)
	}
	file.Write(backup)
	form.Close()
	return s.read(s.client.Post(s.url+"/setup/restore/backup", form.FormDataContentType(), &body))
}

// wants is an answer with these words.
func (s *stranger) wants(what string, status int, body string, want int, words string) {
	s.Helper()
	if status != want || !strings.Contains(body, words) {
		s.Errorf("%s: %d without %q\n%s", what, status, words, body)
	}
}

// burnt is what is left of an appliance that is no more: a backup of it, and its vault.
type burnt struct {
	backup    []byte
	vault     string
	authority string // fingerprint
}

const burntPassword = "correct horse battery staple"

// burn lets an appliance live, saves it, and takes it away.
func burn(t *testing.T) (b burnt) {
	data := filepath.Join(t.TempDir(), "first")
	a, stop := serveAgain(t, quiet(t, data), nil)
	certificate, err := os.ReadFile(filepath.Join(data, "pki", "console.pem"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.New(strings.TrimSuffix(a.URL, "/"), "", string(certificate))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := client.Setup(ctx, api.SetupBody{SetupToken: a.SetupToken, Name: "anna", Password: burntPassword, TokenName: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := a.SaveGeneral(ctx, "anna", store.General{Name: "Milano 1"}); err != nil {
		t.Fatal(err)
	}
	if err := a.SaveBackupPlan(ctx, "anna", api.BackupPlan{Folder: filepath.Join(data, "backup"), Keep: 3, Passphrase: sentence}); err != nil {
		t.Fatal(err)
	}
	th := &theater{T: t, a: a, data: data}
	job, err := a.BackUp(ctx, "anna")
	if err != nil {
		t.Fatal(err)
	}
	th.job(job)
	kept, err := a.Backups(ctx)
	if err != nil || len(kept.Kept) != 1 {
		t.Fatalf("kept %+v, %v", kept, err)
	}
	if b.backup, err = os.ReadFile(filepath.Join(data, "backup", kept.Kept[0].Name)); err != nil {
		t.Fatal(err)
	}
	s, err := a.Setup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.authority = s.Certificate.AuthorityFingerprint
	stop()
	b.vault = filepath.Join(t.TempDir(), "attached")
	if err := os.Rename(filepath.Join(data, "vault"), b.vault); err != nil {
		t.Fatal(err)
	}
	return b
}

func quiet(t *testing.T, data string) appliance.Config {
	return appliance.Config{Data: data, Listen: "127.0.0.1:0", RetryUnit: 200 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))}
}

// TestTheFirstScreenMakesAnotherComputerTheAppliance restores an appliance from a
// browser, at another address, after everything went wrong that can.
func TestTheFirstScreenMakesAnotherComputerTheAppliance(t *testing.T) {
	old := burn(t)
	data := filepath.Join(t.TempDir(), "second")
	again := make(chan *appliance.Appliance, 1)
	a, _ := serveAgain(t, quiet(t, data), again)
	s := newStranger(t, a.URL)
	still := func(after string) {
		t.Helper()
		status, body := s.get("/setup")
		s.wants("the first screen after "+after, status, body, http.StatusOK, `action="/setup"`)
		if token, err := os.ReadFile(filepath.Join(data, "setup-token")); err != nil || strings.TrimSpace(string(token)) != a.SetupToken {
			t.Errorf("after %s the setup token is %q (%v)", after, token, err)
		}
		if _, err := os.Stat(filepath.Join(data, "restore")); err == nil {
			t.Errorf("after %s half a restore is left", after)
		}
	}
	try := func(what, words string, pairs ...string) {
		t.Helper()
		status, body := s.post("/setup/restore", append([]string{"token", a.SetupToken}, pairs...)...)
		s.wants(what, status, body, http.StatusUnprocessableEntity, words)
		still(what)
	}
	try("no backup", "no backup to restore", "passphrase", sentence)
	status, body := s.send("WRONG", old.backup)
	s.wants("a wrong token", status, body, http.StatusUnprocessableEntity, "setup token is not right")
	if _, err := os.Stat(filepath.Join(data, "received")); err == nil {
		t.Error("a backup was taken from somebody without the token")
	}
	status, body = s.send(a.SetupToken, bytes.Repeat([]byte("PK\x03\x04"), 1<<18))
	s.wants("an archive", status, body, http.StatusUnprocessableEntity, "not a backup of Riparo")
	status, body = s.send(a.SetupToken, bytes.Replace(old.backup, []byte(`"schema":`), []byte(`"schema":9`), 1))
	s.wants("a newer schema", status, body, http.StatusUnprocessableEntity, "written by a newer Riparo")
	still("what was no backup")
	if status, body = s.send(a.SetupToken, old.backup[:len(old.backup)-100]); status != http.StatusOK {
		t.Fatalf("a backup cut short is taken with %d: nobody sees that before it is opened\n%s", status, body)
	}
	try("a backup cut short", "The backup is damaged", "passphrase", sentence, "vault", old.vault)
	flipped := slices.Clone(old.backup)
	flipped[len(flipped)-2000] ^= 1
	if status, body = s.send(a.SetupToken, flipped); status != http.StatusOK {
		t.Fatalf("a backup with one wrong bit: %d\n%s", status, body)
	}
	try("a backup with one wrong bit", "The backup is damaged", "passphrase", sentence, "vault", old.vault)

	status, body = s.send(a.SetupToken, old.backup)
	s.wants("the backup", status, body, http.StatusOK, "Milano 1")
	try("a wrong passphrase", "passphrase does not open", "passphrase", "another sentence")
	try("the vault of this computer", "is another one", "passphrase", sentence)
	try("no vault", "There is no vault in", "passphrase", sentence, "vault", t.TempDir())
	try("a folder that is no full path", "no full path", "passphrase", sentence, "vault", "vault")
	try("an address that is none", "is not a name or an IP address", "passphrase", sentence, "vault", old.vault, "address", "https://dr.example/")

	status, body = s.post("/setup/restore", "token", a.SetupToken, "passphrase", sentence, "vault", old.vault, "address", "DR.example")
	s.wants("the restore", status, body, http.StatusOK, `action="/login"`)
	var b *appliance.Appliance
	select {
	case b = <-again:
	case <-time.After(guestLimit):
		t.Fatal("the appliance does not begin again")
	}
	setup, err := b.Setup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if setup.General.Name != "Milano 1" || setup.Vault.Folder != old.vault || b.SetupToken != "" {
		t.Errorf("it is %+v with the vault %q and the setup token %q", setup.General, setup.Vault.Folder, b.SetupToken)
	}
	if c := setup.Certificate; c.AuthorityFingerprint != old.authority || !slices.Contains(c.Names, "dr.example") {
		t.Errorf("its certificate is for %q by %s; want also dr.example, by %s", c.Names, c.AuthorityFingerprint, old.authority)
	}
	for _, gone := range []string{"received", "restore", "setup-token"} {
		if _, err := os.Stat(filepath.Join(data, gone)); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	s = newStranger(t, b.URL)
	if status, _ = s.get("/setup"); status != http.StatusSeeOther {
		t.Errorf("it can be claimed again: %d", status)
	}
	s.signIn()
}

// signIn enters with the account of the appliance that burnt.
func (s *stranger) signIn() {
	s.Helper()
	if status, body := s.post("/login", "name", "anna", "password", burntPassword); status != http.StatusSeeOther {
		s.Fatalf("the account of then does not enter: %d\n%s", status, body)
	}
	status, body := s.get("/settings/appliance")
	s.wants("the console", status, body, http.StatusOK, "Milano 1")
}

// TestKilledInTheMiddleOfARestoreTheFirstScreenIsThere kills the daemon while a backup
// comes, and once more between the restore and its new beginning.
func TestKilledInTheMiddleOfARestoreTheFirstScreenIsThere(t *testing.T) {
	old := burn(t)
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, data: filepath.Join(dir, "data"), listen: "127.0.0.1:0", log: log}
	v.start()
	t.Cleanup(func() {
		v.end(syscall.SIGKILL)
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the daemon's log: %s", text)
		}
	})
	v.settle()
	s := newStranger(t, "https://"+v.listen)
	s.awaits("/setup")
	token := s.token(v.data)

	// Half a backup: a header that is right, and what never ends.
	connection, err := tls.Dial("tcp", v.listen, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	header := old.backup[:bytes.IndexByte(old.backup[20:], '\n')+21]
	fmt.Fprintf(connection, "POST /setup/restore/backup HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n"+
		"--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n%s\r\n--x\r\nContent-Disposition: form-data; name=\"backup\"; filename=\"b\"\r\n\r\n%s%s",
		64<<20, token, header, make([]byte, 1<<20))
	arriving := filepath.Join(v.data, "received", "arriving")
	s.until("half a backup is on disk", func() bool {
		info, err := os.Stat(arriving)
		return err == nil && info.Size() > 256<<10
	})
	v.end(syscall.SIGKILL)
	connection.Close()
	if _, err := os.Stat(arriving); err != nil {
		t.Fatalf("nothing was left by the kill (%v): the test shows nothing", err)
	}
	v.start()
	s.awaits("/setup")
	if _, err := os.Stat(filepath.Join(v.data, "received")); err == nil {
		t.Error("half a backup is left after the restart")
	}
	if now := s.token(v.data); now != token {
		t.Errorf("the setup token was %s and is %s", token, now)
	}

	if status, body := s.send(token, old.backup); status != http.StatusOK {
		t.Fatalf("the backup: %d\n%s", status, body)
	}
	status, body := s.post("/setup/restore", "token", token, "passphrase", sentence, "vault", old.vault)
	s.wants("the restore", status, body, http.StatusOK, `action="/login"`)
	v.end(syscall.SIGKILL)
	if _, err := os.Stat(filepath.Join(v.data, "restore", "ready")); err != nil {
		t.Fatalf("killed too late (%v): the test shows nothing", err)
	}
	v.start()
	s.awaits("/login")
	s.signIn()
}

// awaits waits until a page is there.
func (s *stranger) awaits(path string) {
	s.Helper()
	s.until(path+" is there", func() bool {
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
		if err != nil {
			s.Fatal(err)
		}
		answer, err := s.client.Do(r)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

func (s *stranger) until(what string, so func() bool) {
	s.Helper()
	for deadline := time.Now().Add(guestLimit); !so(); time.Sleep(20 * time.Millisecond) { // another process: no virtual time
		if time.Now().After(deadline) {
			s.Fatalf("it did not come about that %s", what)
		}
	}
}

func (s *stranger) token(data string) string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(data, "setup-token"))
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
