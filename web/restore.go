package web

import (
	"cmp"
	"errors"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"riparo/replication"
	"riparo/web/api"
	"riparo/web/view"
)

// A fresh appliance can become the one of a backup instead of being set up anew. The
// backup comes from the browser in one form and is opened by a second one, so that a
// passphrase typed wrong does not send it again; or it is on this computer already.

// takingBackup is the one form that is not read as a whole before it is served.
const takingBackup = "POST /setup/restore/backup"

const (
	// strangersBytes is what is read of a backup before the setup token: the token
	// stands before the file in the form.
	strangersBytes = 16 << 10
	// restTime is how long nothing may come of a backup.
	restTime = time.Minute
	// takeTime is for a whole backup: the largest over 5 Mbit/s.
	takeTime = 2 * time.Hour
	// drained is what is read of a backup that was refused: a browser that is still
	// sending does not see the answer.
	drained = 64 << 20
	// openTime is for opening a backup: 4 GiB to be deciphered, written and read.
	openTime = 15 * time.Minute
)

// restorePage asks for the backup.
func (k *Console) restorePage(w http.ResponseWriter, r *http.Request) {
	if claimed, err := k.Identity.Claimed(); err != nil || claimed {
		k.onward(w, r, "/", err)
		return
	}
	k.sayRestore(w, r, 0, view.Restore{Token: r.FormValue("token")})
}

func (k *Console) sayRestore(w http.ResponseWriter, r *http.Request, status int, page view.Restore) {
	v := k.visitOf(r)
	page.Now = v.now
	if r.Method == http.MethodPost {
		v.path = "/setup/restore" // where the language and the theme lead back to
	}
	if page.Address == "" {
		page.Address = hostOf(r)
	}
	k.entry(w, v, status, v.words.T("restore.title"), view.RestorePage(page))
}

// hostOf is the name that the browser reached this console under.
func hostOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return strings.Trim(r.Host, "[]")
}

// takeBackup keeps the backup that a browser sends, and asks for its passphrase.
func (k *Console) takeBackup(w http.ResponseWriter, r *http.Request) {
	if claimed, err := k.Identity.Claimed(); err != nil || claimed {
		k.onward(w, r, "/", err)
		return
	}
	gate := &gate{r: r.Body, left: strangersBytes, control: http.NewResponseController(w), until: k.Now().Add(takeTime), now: k.Now}
	r.Body = gate
	page := view.Restore{}
	taken, token, err := k.readBackup(r, gate)
	page.Token = token
	status := 0
	if err != nil {
		gate.open(drained)
		io.Copy(io.Discard, gate) // what does not come makes no difference
		m := messageOf(k.visitOf(r).words, replication.AsProblem(err))
		page.Problem, status = &m, entryStatus(w, err)
	} else {
		page.Taken = k.takenFacts(r, taken)
	}
	k.sayRestore(w, r, status, page)
}

// readBackup reads the form: the token, which is judged before anything else, and the
// file.
func (k *Console) readBackup(r *http.Request, gate *gate) (taken api.Backup, token string, err error) {
	form, err := r.MultipartReader()
	if err != nil {
		return taken, "", notSent(err)
	}
	for entitled := false; ; {
		part, err := form.NextPart()
		if err != nil {
			return taken, token, notSent(err)
		}
		switch name := part.FormName(); {
		case name == "token" && !entitled:
			text, err := io.ReadAll(io.LimitReader(part, 256))
			if err != nil {
				return taken, "", notSent(err)
			}
			token = string(text)
			if err := k.Identity.Entitled(token, addressOf(r)); err != nil {
				return taken, token, err
			}
			entitled = true
		case name == "backup" && entitled:
			if part.FileName() == "" {
				return taken, token, notSent(nil)
			}
			gate.open(api.MaxBackup + strangersBytes)
			taken, err := k.Appliance.TakeBackup(r.Context(), fileOf(part), r.ContentLength)
			return taken, token, err
		default:
			return taken, token, notSent(nil)
		}
	}
}

// fileOf hides the name that a browser gives a file: nothing is called by it.
func fileOf(p *multipart.Part) io.Reader { return struct{ io.Reader }{p} }

func notSent(err error) error {
	return &replication.Problem{Code: "backup.not-sent", Cause: "no backup came", Effect: "nothing was restored", Action: "choose the file of the backup and send it", Remedy: replication.Stop, Err: err}
}

// gate lets through as much of a request as whoever sends it may send, and gives more
// time as long as something comes.
type gate struct {
	r       io.ReadCloser
	left    int64
	opened  bool
	control *http.ResponseController
	until   time.Time // whatever comes
	now     func() time.Time
}

var errGate = errors.New("more than may be sent")

// open lets bytes through from now on.
func (g *gate) open(bytes int64) {
	g.left, g.opened = bytes, true
}

func (g *gate) Read(p []byte) (int, error) {
	if g.left <= 0 {
		return 0, errGate
	}
	if g.opened {
		deadline := g.now().Add(restTime)
		if deadline.After(g.until) {
			deadline = g.until
		}
		g.control.SetReadDeadline(deadline) // neither is supported by every writer in tests
		g.control.SetWriteDeadline(deadline.Add(restTime))
	}
	n, err := g.r.Read(p[:min(int64(len(p)), g.left)])
	g.left -= int64(n)
	return n, err
}

func (g *gate) Close() error { return g.r.Close() }

// takenFacts are what a backup says of itself.
func (k *Console) takenFacts(r *http.Request, b api.Backup) []view.Fact {
	w := k.visitOf(r).words
	return []view.Fact{{Label: w.T("restore.of"), Value: cmp.Or(b.Appliance, w.T("unknown"))}, {Label: w.T("restore.created"), Value: w.Time(b.Created)},
		{Label: w.T("restore.version"), Value: b.Version}, {Label: w.T("size"), Value: w.Bytes(b.Bytes)}}
}

// restore opens a backup of a fresh appliance, which then begins again with it.
func (k *Console) restore(w http.ResponseWriter, r *http.Request) {
	if claimed, err := k.Identity.Claimed(); err != nil || claimed {
		k.onward(w, r, "/", err)
		return
	}
	words := k.visitOf(r).words
	page := view.Restore{Token: r.PostFormValue("token"), File: r.PostFormValue("file"), Vault: strings.TrimSpace(r.PostFormValue("vault")), Address: strings.TrimSpace(r.PostFormValue("address"))}
	err := k.Identity.Entitled(page.Token, addressOf(r))
	var done api.Restored
	if err == nil {
		deadline := k.Now().Add(openTime)
		http.NewResponseController(w).SetWriteDeadline(deadline) // not supported by every writer in tests
		done, err = k.openBackup(r, page)
		if page.File == "" {
			if taken, there, lookErr := k.Appliance.TakenBackup(); lookErr == nil && there {
				page.Taken = k.takenFacts(r, taken)
			}
		}
	}
	status := 0
	if err != nil {
		m := messageOf(words, replication.AsProblem(err))
		page.Problem, status = &m, entryStatus(w, err)
	} else {
		page.Done = words.T("restore.done", "Machines", done.Machines, "Jobs", done.Jobs, "Created", words.Time(done.Created))
		if done.Interrupted > 0 || done.Tokens > 0 {
			page.Done += " " + words.T("restore.ended", "Jobs", done.Interrupted, "Tokens", done.Tokens)
		}
	}
	k.sayRestore(w, r, status, page)
}

func (k *Console) openBackup(r *http.Request, page view.Restore) (api.Restored, error) {
	request := api.RestoreRequest{Passphrase: r.PostFormValue("passphrase"), Vault: page.Vault, Address: page.Address, Actor: "setup"}
	if path := strings.TrimSpace(page.File); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return api.Restored{}, &replication.Problem{Code: "backup.unread", Cause: "the backup cannot be read: " + err.Error(), Effect: "nothing was restored",
				Action: "put it on this computer, where the daemon may read it, and give its full path", Remedy: replication.Stop, Err: err}
		}
		defer f.Close()
		request.Backup = f
	}
	return k.Appliance.Restore(r.Context(), request)
}
