package libvirt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"golang.org/x/crypto/ssh/knownhosts"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/replication"
)

// Kind is how a Host describes itself.
const Kind = "kvm-libvirt"

// Options of a host; the zero value is good.
type Options struct {
	// Folder is where disks of created machines, scratch files and state lie, as the
	// host's QEMU sees it. If empty: /var/lib/libvirt/images/riparo for a system
	// daemon, and riparo in the user's cache folder for a session daemon of this host.
	Folder string
	// DomainType of created machines: "kvm" or "qemu". If empty it is that of the
	// source, or found out by booting something.
	DomainType string
	// KnownHosts are files of SSH hosts that are trusted, beside the user's own. They do
	// not count when the address names one with known_hosts=.
	KnownHosts []string
	// Fingerprint of the certificate that a person confirmed for a TLS address. If
	// empty, an authority that this machine knows has to vouch for the daemon.
	Fingerprint string
	// ScratchReserve and ScratchLimit are as in [kvm.Options].
	ScratchReserve, ScratchLimit int64
}

// Host is a libvirt daemon and its QEMU domains. It is a [hypervisor.Provider] with
// every capability.
type Host struct {
	address string
	uri     *url.URL
	options Options
	place   place
	// patience is how long the daemon may take to be dialed and to say who it is.
	patience time.Duration

	mu         sync.Mutex // guards what follows; held while the host is dialed
	connection *rpc.Libvirt
	site       *kvm.Site      // for the disks of machines that are off; nil until needed
	calls      sync.WaitGroup // calls under way, also those that nobody waits for any more

	seating sync.Mutex // guards seats
	seats   map[hypervisor.Ref]*seat
}

// seat is what this process holds of one domain.
type seat struct {
	lock    chan struct{} // one operation at a time; holds a token when free
	capture *capture      // the open one, or nil; guarded by lock
	thawed  bool          // no freeze of an earlier process can be in force; guarded by lock
	settled bool          // nothing can be left open in it; guarded by lock
}

var (
	_ hypervisor.Provider      = (*Host)(nil)
	_ hypervisor.Watcher       = (*Host)(nil)
	_ hypervisor.ChangeReader  = (*Host)(nil)
	_ hypervisor.OverlayBooter = (*Host)(nil)
	_ hypervisor.DiskOpener    = (*Host)(nil)
	_ hypervisor.StoppedReader = (*Host)(nil)
	_ hypervisor.ConsoleReader = (*Host)(nil)
	_ hypervisor.Fencer        = (*Host)(nil)
	_ hypervisor.Settler       = (*Host)(nil)
)

// Open prepares for a host; it is dialed by the first call that needs it, and again
// after the connection was lost.
func Open(_ context.Context, address string, options Options) (*Host, error) {
	uri, err := parse(address)
	if err != nil {
		return nil, &replication.Problem{
			Code: "libvirt.address", Cause: fmt.Sprintf("the address %q is not one of a libvirt daemon: %v", address, err), Effect: "the site cannot be used",
			Action: "write it as qemu:///system, qemu:///session?socket=PATH, qemu+ssh://USER@HOST/system or qemu+tls://HOST/system",
			Remedy: replication.Stop, Err: err,
		}
	}
	h := &Host{address: address, uri: uri, options: options, patience: handshakeLimit, seats: map[hypervisor.Ref]*seat{}}
	if h.options.Folder == "" {
		h.options.Folder = "/var/lib/libvirt/images/riparo"
		if h.session() {
			base, err := os.UserCacheDir()
			if err != nil {
				return nil, fmt.Errorf("open %s: %w", address, err)
			}
			h.options.Folder = filepath.Join(base, "riparo")
		}
	}
	if h.options.ScratchReserve == 0 {
		h.options.ScratchReserve = kvm.DefaultScratchReserve
	}
	if h.place, err = placeOf(uri, options.KnownHosts); err != nil {
		return nil, fmt.Errorf("open %s: %w", address, err)
	}
	return h, nil
}

// session says whether the daemon is a user's own, which has no bridges.
func (h *Host) session() bool { return h.uri.Path == "/session" }

// Describe says what the host is.
func (h *Host) Describe() hypervisor.Description {
	return hypervisor.Description{Kind: Kind, Address: h.address}
}

// closeWait is how long Close waits for operations under way.
const closeWait = 10 * time.Second

// Close ends the connection, and open captures, which the next one rolls back. Domains
// go on running.
func (h *Host) Close() error {
	h.mu.Lock()
	connection, site := h.connection, h.site
	h.connection, h.site = nil, nil
	h.mu.Unlock()
	h.seating.Lock()
	seats := slices.Collect(maps.Values(h.seats))
	h.seating.Unlock()
	busy := time.NewTimer(closeWait)
	defer busy.Stop()
	var err error
	for _, p := range seats {
		select {
		case <-p.lock:
			if p.capture != nil {
				p.capture.supersede()
				p.capture = nil
			}
			p.lock <- struct{}{}
		case <-busy.C:
			err = fmt.Errorf("close %s: a machine is busy", h.address)
		}
	}
	if site != nil {
		err = site.Close()
	}
	if connection != nil && connection.IsConnected() {
		err = errors.Join(err, connection.Disconnect())
	}
	h.calls.Wait()
	return errors.Join(err, h.place.close())
}

// call makes a call of libvirt's. The protocol's client knows no ctx: when ctx ends
// the call goes on without anybody waiting for it, until it returns or Close ends the
// connection.
func call[T any](ctx context.Context, h *Host, f func(*rpc.Libvirt) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	h.calls.Go(func() {
		connection, err := h.connect(ctx)
		if err != nil {
			done <- result{err: err}
			return
		}
		value, err := f(connection)
		done <- result{value, h.translate(err)}
	})
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("libvirt at %s did not answer: %w", h.address, context.Cause(ctx))
	}
}

// do is call for calls without a result.
func do(ctx context.Context, h *Host, f func(*rpc.Libvirt) error) error {
	_, err := call(ctx, h, func(l *rpc.Libvirt) (struct{}, error) { return struct{}{}, f(l) })
	return err
}

// connect gives the connection, dialing if there is none.
func (h *Host) connect(ctx context.Context) (*rpc.Libvirt, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil { // it waited while others dialed, and nobody waits for it any more
		return nil, context.Cause(ctx)
	}
	if h.connection != nil && h.connection.IsConnected() {
		return h.connection, nil
	}
	connection, err := h.handshake()
	if err != nil {
		return nil, err
	}
	h.connection = connection
	return connection, nil
}

// handshake makes a new connection. A daemon that accepts one and says nothing is given
// up.
func (h *Host) handshake() (*rpc.Libvirt, error) {
	d := &dialer{host: h}
	connection := rpc.NewWithDialer(d)
	late := time.AfterFunc(h.patience, d.hangUp)
	err := connection.ConnectToURI(rpc.RemoteURI(h.uri))
	if !late.Stop() { // also when its word came in the same moment: the connection is closed
		if err == nil {
			connection.Disconnect()
		}
		err = fmt.Errorf("it was silent for %s", h.patience)
	}
	if err != nil {
		return nil, h.dialProblem(err)
	}
	return connection, nil
}

func (h *Host) dialProblem(err error) error {
	if p, known := errors.AsType[*replication.Problem](err); known {
		return p // the certificate was refused, which says all
	}
	p := &replication.Problem{
		Code: "libvirt.unreachable", Cause: fmt.Sprintf("libvirt at %s cannot be reached: %v", h.address, err), Effect: "its machines can neither be seen nor protected",
		Action: "check that the daemon runs, the address, and the network between here and there", Remedy: replication.Retry, Err: err,
	}
	text := strings.ToLower(err.Error())
	for _, sign := range []string{"unable to authenticate", "authentication", "permission denied", "knownhosts", "certificate", "access denied"} {
		if strings.Contains(text, sign) {
			p.Code, p.Remedy = "libvirt.refused", replication.Stop
			p.Action = "give this account access to the daemon: the group libvirt, an SSH key and a known host key, or a client certificate"
		}
	}
	if e, hostKey := errors.AsType[*knownhosts.KeyError](err); hostKey {
		p.Code, p.Action = "peer.unknown", "compare the fingerprint of its key with what the host itself says and confirm it under Infrastructure"
		if len(e.Want) > 0 {
			p.Code, p.Action = "peer.changed", "if the host was made anew, compare the fingerprint of its key with what the host itself says and confirm it under Infrastructure; otherwise somebody may stand in between"
		}
	}
	return p
}

// translate gives libvirt's errors the names that callers know.
func (h *Host) translate(err error) error {
	if e, ok := errors.AsType[rpc.Error](err); ok && e.Code == uint32(rpc.ErrNoDomain) {
		return fmt.Errorf("%w: %s", hypervisor.ErrNoMachine, e.Message)
	}
	return err
}

func hasCode(err error, code rpc.ErrorNumber) bool {
	e, ok := errors.AsType[rpc.Error](err)
	return ok && e.Code == uint32(code)
}

// seat is this process's part of a domain.
func (h *Host) seat(ref hypervisor.Ref) *seat {
	h.seating.Lock()
	defer h.seating.Unlock()
	p := h.seats[ref]
	if p == nil {
		p = &seat{lock: make(chan struct{}, 1)}
		p.lock <- struct{}{}
		h.seats[ref] = p
	}
	return p
}

// hold begins an operation on a domain: one at a time in this process.
func (h *Host) hold(ctx context.Context, ref hypervisor.Ref) (*seat, func(), error) {
	p := h.seat(ref)
	select {
	case <-p.lock:
		return p, func() { p.lock <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("machine %s is busy: %w", ref, context.Cause(ctx))
	}
}
