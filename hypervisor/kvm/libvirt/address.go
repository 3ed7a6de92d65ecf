package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt/socket"
)

// parse checks an address for what this package can dial.
func parse(address string) (*url.URL, error) {
	uri, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	switch transport(uri) {
	case "unix", "ssh", "tls":
	default:
		return nil, fmt.Errorf("the transport of %q: want none, ssh or tls", uri.Scheme)
	}
	switch {
	case !strings.HasPrefix(uri.Scheme, "qemu"):
		return nil, fmt.Errorf("the driver of %q: want qemu", uri.Scheme)
	case uri.Path != "/system" && uri.Path != "/session":
		return nil, fmt.Errorf("the path %q: want /system or /session", uri.Path)
	case transport(uri) != "unix" && uri.Host == "":
		return nil, errors.New("it names no host")
	}
	return uri, nil
}

// transport of an address: qemu+ssh is ssh; without one it is tls to a named host and
// the unix socket otherwise, as in libvirt.
func transport(uri *url.URL) string {
	if _, name, ok := strings.Cut(uri.Scheme, "+"); ok {
		return name
	}
	if uri.Host != "" {
		return "tls"
	}
	return "unix"
}

// socketPath is the daemon's socket on its host.
func socketPath(uri *url.URL) string {
	if path := uri.Query().Get("socket"); path != "" {
		return path
	}
	if uri.Path == "/session" {
		base := os.Getenv("XDG_RUNTIME_DIR")
		if base == "" {
			base = fmt.Sprintf("/run/user/%d", os.Getuid())
		}
		return base + "/libvirt/libvirt-sock"
	}
	return "/var/run/libvirt/libvirt-sock"
}

// dialLimit is how long the daemon's host may take to answer.
const dialLimit = 20 * time.Second

// dialer connects the protocol's client.
type dialer struct {
	host *Host

	mu   sync.Mutex // guards what follows
	conn net.Conn
	late bool
}

var _ socket.Dialer = (*dialer)(nil)

// handshakeLimit is the usual patience with a daemon.
const handshakeLimit = dialLimit + 20*time.Second

// hangUp ends the connection.
func (d *dialer) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late = true
	if d.conn != nil {
		d.conn.Close()
	}
}

// Dial connects to the daemon.
func (d *dialer) Dial() (net.Conn, error) {
	c, err := d.connect()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.conn = c
	late := d.late
	d.mu.Unlock()
	if late {
		c.Close()
	}
	return newPackets(c), nil
}

func (d *dialer) connect() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit) // the interface has no ctx
	defer cancel()
	if transport(d.host.uri) == "tls" {
		return d.host.dialTLS(ctx)
	}
	return d.host.place.dial(ctx, "unix", socketPath(d.host.uri))
}
