package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"riparo/hypervisor/kvm/fleece"
)

// there is a host that is reached through SSH: one connection carries the streams to
// its sockets and the few commands that make, size and remove files.
type there struct {
	address string
	config  *ssh.ClientConfig

	aliveEvery, aliveLimit time.Duration

	mu     sync.Mutex // guards what follows
	client *ssh.Client
	gone   chan struct{} // closed when client's connection has ended
	agent  net.Conn      // to the user's SSH agent, if one runs
}

const (
	// aliveEvery is how often a host is asked whether it is there still, and aliveLimit how
	// long it may take to answer. TCP finds out after a quarter of an hour, and streams
	// through SSH know no deadlines.
	aliveEvery = 10 * time.Second
	aliveLimit = 30 * time.Second
	// goneWait is how long after a failure a connection may take to be known to have ended.
	goneWait = 100 * time.Millisecond
)

// keyFiles are tried in the user's .ssh folder when the address names none.
var keyFiles = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

func newSSH(uri *url.URL, trusted []string) (*there, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	query := uri.Query()
	known := []string{query.Get("known_hosts")}
	if known[0] == "" {
		known[0] = filepath.Join(home, ".ssh", "known_hosts")
		for _, name := range trusted {
			if _, err := os.Stat(name); err == nil {
				known = append(known, name)
			}
		}
		if _, err := os.Stat(known[0]); err != nil && len(known) > 1 {
			known = known[1:]
		}
	}
	hostKeys, err := knownhosts.New(known...)
	if err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	config := &ssh.ClientConfig{User: uri.User.Username(), HostKeyCallback: hostKeys, Timeout: dialLimit}
	if config.User == "" {
		config.User = os.Getenv("USER")
	}
	keys := []string{query.Get("keyfile")}
	if keys[0] == "" {
		keys = nil
		for _, name := range keyFiles {
			keys = append(keys, filepath.Join(home, ".ssh", name))
		}
	}
	port := uri.Port()
	if port == "" {
		port = "22"
	}
	t := &there{address: net.JoinHostPort(uri.Hostname(), port), config: config, aliveEvery: aliveEvery, aliveLimit: aliveLimit}
	config.Auth = append(config.Auth, ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return t.signers(keys) }))
	if password, ok := uri.User.Password(); ok {
		config.Auth = append(config.Auth, ssh.Password(password))
	}
	return t, nil
}

// signers are the keys of the agent, if one runs, and of the files that exist. A key
// with a passphrase needs the agent. It is called while connect holds the lock.
func (t *there) signers(files []string) ([]ssh.Signer, error) {
	var all []ssh.Signer
	if path := os.Getenv("SSH_AUTH_SOCK"); path != "" && t.agent == nil {
		t.agent, _ = net.Dial("unix", path) // an agent that has gone is none
	}
	if t.agent != nil {
		if held, err := sshagent.NewClient(t.agent).Signers(); err == nil {
			all = append(all, held...)
		}
	}
	var failed error
	for _, file := range files {
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			var signer ssh.Signer
			if signer, err = ssh.ParsePrivateKey(content); err == nil {
				all = append(all, signer)
			}
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("SSH key %s: %w", file, err))
		}
	}
	if len(all) == 0 && failed == nil {
		failed = errors.New("no SSH key was found: name one with keyfile=")
	}
	if len(all) > 0 {
		failed = nil
	}
	return all, failed
}

func (t *there) local() bool { return false }

func (t *there) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.agent != nil {
		t.agent.Close()
		t.agent = nil
	}
	if t.client == nil {
		return nil
	}
	err := t.client.Close()
	t.client = nil
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// connect gives the connection, dialing if it is not there or was lost.
func (t *there) connect(ctx context.Context) (client *ssh.Client, gone <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil {
		select {
		case <-t.gone:
			t.client.Close()
			t.client = nil
		default:
			return t.client, t.gone, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	heard := &heardConn{Conn: conn}
	c, channels, requests, err := ssh.NewClientConn(heard, t.address, t.config)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("SSH to %s: %w", t.address, err)
	}
	fresh, ended := ssh.NewClient(c, channels, requests), make(chan struct{})
	t.client, t.gone = fresh, ended
	go func() {
		fresh.Wait()
		close(ended)
	}()
	go t.watch(fresh, heard, ended)
	return fresh, ended, nil
}

// heardConn knows when something came last.
type heardConn struct {
	net.Conn
	last atomic.Int64 // nanoseconds
}

func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.last.Store(time.Now().UnixNano())
	}
	return n, err
}

// watch ends a connection from whose other end nothing comes any more, not even the answer
// to a question, and with it all that waits for something from there. On a slow line the
// answer queues behind data.
func (t *there) watch(client *ssh.Client, conn *heardConn, gone <-chan struct{}) {
	tick := time.NewTicker(t.aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-gone:
			return
		}
		answered := make(chan struct{})
		go func() {
			client.SendRequest("keepalive@openssh.com", true, nil) // a refusal is an answer
			close(answered)
		}()
		asked := time.Now()
		for waiting := true; waiting; {
			select {
			case <-answered:
				waiting = false
			case <-gone:
				return
			case <-tick.C:
				if time.Since(asked) > t.aliveLimit && time.Since(time.Unix(0, conn.last.Load())) > t.aliveLimit {
					client.Close()
					return
				}
			}
		}
	}
}

func (t *there) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := through(ctx, t, func(client *ssh.Client) (net.Conn, error) { return client.DialContext(ctx, network, address) })
	if err != nil {
		return nil, fmt.Errorf("connect to %s on %s: %w", address, t.address, err)
	}
	return conn, nil
}

// through opens something on the connection, and once more on a new one if it has just
// ended.
func through[T any](ctx context.Context, t *there, open func(*ssh.Client) (T, error)) (T, error) {
	var none T
	client, gone, err := t.connect(ctx)
	if err != nil {
		return none, err
	}
	opened, err := open(client)
	if err == nil || ctx.Err() != nil {
		return opened, err
	}
	select {
	case <-gone:
	case <-time.After(goneWait):
		return none, err
	}
	if client, _, err = t.connect(ctx); err != nil {
		return none, err
	}
	return open(client)
}

// run runs a shell command there with some input and returns what it printed.
func (t *there) run(ctx context.Context, input []byte, command string) ([]byte, error) {
	session, err := through(ctx, t, (*ssh.Client).NewSession)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	var out, complaint bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = bytes.NewReader(input), &out, &complaint
	if err := session.Run(command); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("on %s: %w: %s", t.address, err, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}

// quote makes one word of a shell of any text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func (t *there) make(ctx context.Context, file string, content []byte) error {
	_, err := t.run(ctx, content, "umask 077 && mkdir -p "+quote(path.Dir(file))+" && cat > "+quote(file))
	return err
}

func (t *there) remove(ctx context.Context, file string) error {
	_, err := t.run(ctx, nil, "rm -rf -- "+quote(file))
	return err
}

func (t *there) end(ctx context.Context, file string, limit int) ([]byte, error) {
	return t.run(ctx, nil, fmt.Sprintf("test ! -e %s || tail -c %d -- %s", quote(file), limit, quote(file)))
}

func (t *there) scratch(folder, owner string) fleece.Scratch { return farFolder{t, folder, owner} }

// farFolder is a scratch folder on a host that is reached through SSH.
type farFolder struct {
	there         *there
	folder, owner string
}

func (f farFolder) Path(name string) string { return path.Join(f.folder, name) }

func (f farFolder) Make(ctx context.Context, name string, content []byte, reserve int64) error {
	file := quote(f.Path(name))
	command := "umask 077 && mkdir -p " + quote(f.folder) + " && cat > " + file
	if reserve > 0 {
		command += fmt.Sprintf(" && fallocate -l %d %s", reserve, file)
	}
	if f.owner != "" {
		// Only root can give files away; another account is QEMU's own user, or its
		// group has access.
		command += " && { test $(id -u) != 0 || chown " + quote(f.owner) + " " + quote(f.folder) + " " + file + "; }"
	}
	_, err := f.there.run(ctx, content, command)
	return err
}

func (f farFolder) Remove(ctx context.Context, names []string) error {
	command := "rm -f --"
	for _, name := range names {
		command += " " + quote(f.Path(name))
	}
	_, err := f.there.run(ctx, nil, command)
	return err
}

// Left looks for the files.
func (f farFolder) Left(ctx context.Context, names []string) (bool, error) {
	command := "false"
	for _, name := range names {
		command += " || test -e " + quote(f.Path(name))
	}
	out, err := f.there.run(ctx, nil, "if "+command+"; then echo left; fi")
	return len(out) > 0, err
}

// Usage runs df for the room and stat for the files, in POSIX's and GNU's forms.
func (f farFolder) Usage(ctx context.Context, names []string) (used, free int64, err error) {
	command := "mkdir -p " + quote(f.folder) + " && df -Pk " + quote(f.folder) + " | tail -n 1 && cd " + quote(f.folder) + " && stat -c %b -- /dev/null"
	for _, name := range names {
		command += " " + quote(name)
	}
	out, err := f.there.run(ctx, nil, command+" 2>/dev/null || true")
	if err != nil {
		return 0, 0, err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	word := strings.Fields(lines[0])
	if len(word) < 4 {
		return 0, 0, fmt.Errorf("free space of %s on %s: unreadable answer %q", f.folder, f.there.address, lines[0])
	}
	kib, err := strconv.ParseInt(word[3], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("free space of %s on %s: %w", f.folder, f.there.address, err)
	}
	for _, line := range lines[1:] {
		if blocks, err := strconv.ParseInt(line, 10, 64); err == nil {
			used += blocks * 512
		}
	}
	return used, kib << 10, nil
}
