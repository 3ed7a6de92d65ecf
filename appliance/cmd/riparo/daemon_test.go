package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/web/api"
)

// daemon is a real appliance inside of the test, with its embedded lab.
type daemon struct {
	*appliance.Appliance
	data  string // folder
	token string
	stop  func() // ends it; what it keeps stays
}

const password = "correct horse battery staple"

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	return startDaemon(t, t.TempDir(), "127.0.0.1:0")
}

// startDaemon starts one on what an earlier one may have kept.
func startDaemon(t *testing.T, data, listen string) *daemon {
	t.Helper()
	log, err := appliance.OpenLog(data, slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	a, err := appliance.Open(t.Context(), appliance.Config{Data: data, Listen: listen, Version: "test", Logs: log, RetryUnit: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{Appliance: a, data: data}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("the appliance ended: %v", err)
		}
	})
	d.stop = sync.OnceFunc(func() {
		cancel()
		ended.Wait()
		if err := errors.Join(a.Close(), log.Close()); err != nil {
			t.Errorf("close the appliance: %v", err)
		}
	})
	t.Cleanup(d.stop)
	return d
}

// claimed is a daemon with an administrator, two sites and a policy as quick as
// there can be.
func claimed(t *testing.T) *daemon {
	t.Helper()
	d := newDaemon(t)
	d.token = must[api.Claimed](t, d.claim(t)...).Token.Secret
	for _, site := range []string{"milano", "torino"} {
		must[map[string]any](t, d.at("sites", "add", site, "--kind", "lab", "--address", "0")...)
	}
	must[replication.Policy](t, d.at("policies", "save", "quick", "--copy-every", "5s", "--app-every", "0")...)
	return d
}

func (d *daemon) claim(t *testing.T) []string {
	file := write(t, filepath.Join(t.TempDir(), "password"), []byte(password+"\n"))
	return []string{"claim", "--url", d.URL, "--ca", d.Fingerprint, "--token", d.SetupToken, "--name", "admin", "--password-file", file}
}

// at completes a command line with where the daemon is and who asks.
func (d *daemon) at(args ...string) []string {
	return append(args, "--url", d.URL, "--token", d.token, "--ca", d.Fingerprint)
}

// do runs a verb that has to succeed and gives what it printed for people.
func (d *daemon) do(t *testing.T, args ...string) string {
	t.Helper()
	status, out, errs := call(t.Context(), d.at(args...)...)
	if status != 0 {
		t.Fatalf("riparo %q: status %d\n%s", args, status, errs)
	}
	return out
}

// machine makes a machine at milano that runs.
func (d *daemon) machine(t *testing.T, name string, seed uint64) hypervisor.Ref {
	t.Helper()
	site := d.site(t, "milano")
	m, err := site.AddMachine(lab.Spec{Name: name, Seed: seed, Churn: 64 << 10, Disks: []lab.DiskSpec{
		{Key: "vda", Size: 16 << 20, InitialBytes: 2 << 20}, {Key: "vdb", Size: 16 << 20, InitialBytes: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Start(t.Context(), m.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return m.Ref
}

// site is a site of the daemon's lab.
func (d *daemon) site(t *testing.T, name string) *lab.Site {
	t.Helper()
	world, err := d.Lab()
	if err != nil {
		t.Fatal(err)
	}
	site, err := world.Site(name)
	if err != nil {
		t.Fatal(err)
	}
	return site
}

// protected makes a machine and protects it.
func (d *daemon) protected(t *testing.T, name string, seed uint64) replication.MachineID {
	t.Helper()
	ref := d.machine(t, name, seed)
	a := must[asked](t, d.at("protect", "--site", "milano", "--machine", string(ref), "--target", "torino", "--policy", "quick", "--wait")...)
	return a.Machine
}

// problemOf is the one document that a failed verb prints as JSON.
func problemOf(t *testing.T, out string) (code, cause, effect, remedy string) {
	t.Helper()
	var told struct {
		Error struct{ Code, Cause, Effect, Remedy string }
	}
	decoder := json.NewDecoder(strings.NewReader(out))
	if err := decoder.Decode(&told); err != nil || decoder.More() {
		t.Fatalf("want one JSON document with an error, got %q (%v)", out, err)
	}
	return told.Error.Code, told.Error.Cause, told.Error.Effect, told.Error.Remedy
}

// listener collects what a verb prints while it runs, and tells of every write.
type listener struct {
	mu    sync.Mutex // guards text
	text  bytes.Buffer
	wrote chan struct{} // one slot
}

func newListener() *listener { return &listener{wrote: make(chan struct{}, 1)} }

func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// verb is a verb that runs beside the test.
type verb struct {
	stop     context.CancelFunc // Ctrl-C
	ended    chan int           // its status
	out, err *listener
}

// begin starts a verb.
func begin(t *testing.T, args ...string) *verb {
	ctx, stop := context.WithCancel(t.Context())
	v := &verb{stop: stop, ended: make(chan int, 1), out: newListener(), err: newListener()}
	go func() { v.ended <- run(ctx, args, v.out, v.err) }()
	t.Cleanup(stop)
	return v
}

// ends waits for the end of the verb and wants a status.
func (v *verb) ends(t *testing.T, want int) {
	t.Helper()
	select {
	case status := <-v.ended:
		if status != want {
			t.Fatalf("status %d, want %d\nstdout %s\nstderr %s", status, want, v.out, v.err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("the verb does not end\nstdout %s\nstderr %s", v.out, v.err)
	}
}

// hears waits until the verb has printed a text.
func (l *listener) hears(t *testing.T, text string) {
	t.Helper()
	limit := time.After(time.Minute)
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.wrote:
		case <-limit:
			t.Fatalf("not heard: %q in\n%s", text, l)
		}
	}
}

// certificateOf is the daemon's certificate as a PEM text.
func certificateOf(t *testing.T, d *daemon) []byte {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(d.URL, "https://"), "/"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ConnectionState().PeerCertificates[0].Raw})
}
