package setup

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"riparo/hypervisor/kvm/libvirt"
	"riparo/replication"
)

// Peer is who answers at the address of a site: an SSH host with its key, or a daemon
// with its TLS certificate.
type Peer struct {
	Host        string `json:"host"` // HOST:PORT
	Kind        string `json:"kind"` // of the key, or "x509"
	Fingerprint string `json:"fingerprint"`
	// Known: it is who was confirmed, or an authority vouches for it. Changed: somebody
	// else was confirmed before.
	Known   bool `json:"known"`
	Changed bool `json:"changed"`
	// Of a certificate: what it says, and why nobody vouches for it, one of the Doubts.
	Subject string    `json:"subject,omitempty"`
	Issuer  string    `json:"issuer,omitempty"`
	Begins  time.Time `json:"begins,omitzero"`
	Ends    time.Time `json:"ends,omitzero"`
	Doubt   string    `json:"doubt,omitempty"`

	line  string         // of a known_hosts file
	other string         // the known_hosts file that holds another key
	shown *libvirt.Shown // the certificate
	was   string         // the fingerprint that was confirmed
}

// Doubts about a certificate.
const (
	DoubtAuthority = "authority" // whoever issued it is not known here
	DoubtName      = "name"      // it is for another host
	DoubtPeriod    = "period"    // it is not valid yet, or no more
	DoubtOther     = "other"
)

// peerTime bounds a look at who answers.
const peerTime = 10 * time.Second

// LookAt asks who answers at the address of a site, without signing in. Addresses that
// are reached neither over SSH nor over TLS have no peer. known are files of SSH hosts
// that are known, and confirmed is the fingerprint of the certificate that was
// confirmed before, if one was.
//
// Problems: peer.silent.
func LookAt(ctx context.Context, address, confirmed string, known ...string) (*Peer, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	if !strings.HasSuffix(u.Scheme, "+ssh") {
		return lookAtCertificate(ctx, u, address, confirmed)
	}
	host := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "22"))
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, silent(host, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var p *Peer
	enough := errors.New("the key was seen")
	config := &ssh.ClientConfig{User: "riparo", Timeout: peerTime, HostKeyCallback: func(_ string, remote net.Addr, key ssh.PublicKey) error {
		seen := &Peer{Host: host, Kind: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), line: knownhosts.Line([]string{knownhosts.Normalize(host)}, key)}
		if err := seen.compare(remote, key, known); err != nil {
			return err
		}
		p = seen
		return enough
	}}
	c, _, _, err := ssh.NewClientConn(conn, host, config)
	if err == nil {
		c.Close()
	}
	conn.Close()
	if p == nil {
		return nil, silent(host, err)
	}
	return p, nil
}

// lookAtCertificate asks a daemon that is reached over TLS.
func lookAtCertificate(ctx context.Context, u *url.URL, address, confirmed string) (*Peer, error) {
	shown, err := libvirt.Look(ctx, address)
	if err != nil {
		return nil, &replication.Problem{Code: "peer.silent", Cause: fmt.Sprintf("%s does not answer as a TLS server: %v", u.Host, err), Effect: "nothing was sent to it",
			Action: "check the address, and that the daemon listens for TLS and is reachable from here", Remedy: replication.Retry, Err: err}
	}
	if shown == nil {
		return nil, nil
	}
	c := shown.Certificate
	return &Peer{Host: shown.Host, Kind: "x509", Fingerprint: shown.Fingerprint, Known: shown.Judge(confirmed) == nil, Changed: confirmed != "" && !shown.Is(confirmed),
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Begins: c.NotBefore, Ends: c.NotAfter, Doubt: doubt(shown.Doubt), shown: shown, was: confirmed}, nil
}

// doubt names why nobody vouches for a certificate.
func doubt(err error) string {
	if err == nil {
		return ""
	}
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); is {
		return DoubtAuthority
	}
	if _, is := errors.AsType[x509.HostnameError](err); is {
		return DoubtName
	}
	if e, is := errors.AsType[x509.CertificateInvalidError](err); is && e.Reason == x509.Expired {
		return DoubtPeriod
	}
	return DoubtOther
}

// compare compares an SSH host's key with those that are known.
func (p *Peer) compare(remote net.Addr, key ssh.PublicKey, known []string) error {
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
	err = check(p.Host, remote, key)
	p.Known = err == nil
	if other := (*knownhosts.KeyError)(nil); errors.As(err, &other) && len(other.Want) > 0 {
		p.Changed, p.other = true, other.Want[0].Filename
	}
	return nil
}

// Certificate reports whether the peer shows a certificate, and not the key of an SSH
// host.
func (p *Peer) Certificate() bool { return p.shown != nil }

// Is reports whether a person who confirms a fingerprint means this peer.
func (p *Peer) Is(fingerprint string) bool {
	if p.shown != nil {
		return p.shown.Is(fingerprint)
	}
	return strings.TrimSpace(fingerprint) == p.Fingerprint
}

// Refusal tells why a peer that is not known is not spoken to, and what follows.
//
// Problems: peer.changed, peer.unknown.
func (p *Peer) Refusal(effect string) error {
	out := &replication.Problem{Code: "peer.unknown", Cause: fmt.Sprintf("nobody has confirmed yet who answers at %s; its key has the fingerprint %s", p.Host, p.Fingerprint),
		Action: "compare the fingerprint with what the host itself says, and confirm it", Remedy: replication.Stop}
	switch {
	case p.shown != nil:
		out = replication.AsProblem(p.shown.Judge(p.was))
	case p.Changed:
		out.Code, out.Cause = "peer.changed", fmt.Sprintf("%s shows another key (%s) than before", p.Host, p.Fingerprint)
		out.Action = "if the host was made anew, compare the fingerprint with what the host itself says and confirm it; otherwise somebody may stand in between"
	}
	out.Effect = effect
	return out
}

func silent(host string, err error) error {
	return &replication.Problem{Code: "peer.silent", Cause: fmt.Sprintf("%s does not answer as an SSH server: %v", host, err), Effect: "nothing was sent to it",
		Action: "check the address, and that SSH is reachable from here", Remedy: replication.Retry, Err: err}
}

// Trust keeps an SSH host in a file of known hosts, in the place of another key that
// the file had for it. A certificate is kept by the site instead.
//
// Problems: peer.elsewhere.
func (p *Peer) Trust(file string) error {
	if p.shown != nil {
		return nil
	}
	var kept []string
	if p.Changed {
		if p.other != file {
			return &replication.Problem{Code: "peer.elsewhere", Cause: fmt.Sprintf("another key of %s stands in %s, which is not Riparo's file", p.Host, p.other), Effect: "nothing was changed",
				Action: "remove the line of the host there, and confirm again", Remedy: replication.Stop}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read the known hosts: %w", err)
		}
		name := knownhosts.Normalize(p.Host)
		for line := range strings.Lines(string(text)) {
			if names, _, _ := strings.Cut(line, " "); names != name {
				kept = append(kept, strings.TrimRight(line, "\r\n"))
			}
		}
	} else if text, err := os.ReadFile(file); err == nil {
		kept = strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the known hosts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".known_hosts-*")
	if err != nil {
		return fmt.Errorf("keep a known host: %w", err)
	}
	_, err = f.WriteString(strings.TrimLeft(strings.Join(append(kept, p.line), "\n"), "\n") + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep a known host: %w", err), os.Remove(f.Name()))
	}
	return nil
}
