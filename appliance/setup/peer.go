package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"riparo/replication"
)

// Peer is who answers at the address of a site over SSH.
type Peer struct {
	Host        string `json:"host"` // HOST:PORT
	Kind        string `json:"kind"` // of the key
	Fingerprint string `json:"fingerprint"`
	Known       bool   `json:"known"` // and is who it was before
	line        string // of a known_hosts file
}

// peerTime bounds a look at who answers.
const peerTime = 10 * time.Second

// LookAt asks who answers at the address of a site, without signing in. Addresses that
// are not reached over SSH have no peer. known are files of hosts that are known.
//
// Problems: peer.silent, peer.changed.
func LookAt(ctx context.Context, address string, known ...string) (*Peer, error) {
	u, err := url.Parse(address)
	if err != nil || !strings.HasSuffix(u.Scheme, "+ssh") {
		return nil, nil
	}
	host := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "22"))
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, silent(host, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var p *Peer
	config := &ssh.ClientConfig{User: "riparo", Timeout: peerTime, HostKeyCallback: func(_ string, remote net.Addr, key ssh.PublicKey) error {
		p = &Peer{Host: host, Kind: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), line: knownhosts.Line([]string{knownhosts.Normalize(host)}, key)}
		return judge(p, host, remote, key, known)
	}}
	c, _, _, err := ssh.NewClientConn(conn, host, config)
	if err == nil { // a host that lets anybody in
		c.Close()
	}
	conn.Close()
	if problem, ok := errors.AsType[*replication.Problem](err); ok {
		return p, problem
	}
	if p == nil {
		return nil, silent(host, err)
	}
	return p, nil
}

// judge compares a key with those that are known.
func judge(p *Peer, host string, remote net.Addr, key ssh.PublicKey, known []string) error {
	var files []string
	for _, name := range known {
		if _, err := os.Stat(name); err == nil {
			files = append(files, name)
		}
	}
	check, err := knownhosts.New(files...)
	if err != nil {
		return fmt.Errorf("read the known hosts: %w", err)
	}
	err = check(host, remote, key)
	if other := (*knownhosts.KeyError)(nil); errors.As(err, &other) && len(other.Want) > 0 {
		return &replication.Problem{Code: "peer.changed", Cause: fmt.Sprintf("%s shows another key (%s) than before", host, p.Fingerprint), Effect: "nothing was sent to it",
			Action: fmt.Sprintf("if the host was made anew, remove its line from %s and look again; otherwise somebody may stand in between", other.Want[0].Filename), Remedy: replication.Stop, Err: err}
	}
	p.Known = err == nil
	return nil
}

func silent(host string, err error) error {
	return &replication.Problem{Code: "peer.silent", Cause: fmt.Sprintf("%s does not answer as an SSH server: %v", host, err), Effect: "nothing was sent to it",
		Action: "check the address, and that SSH is reachable from here", Remedy: replication.Retry, Err: err}
}

// Trust keeps a peer in a file of known hosts.
func (p *Peer) Trust(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep a known host: %w", err)
	}
	_, err = f.WriteString(p.line + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}
