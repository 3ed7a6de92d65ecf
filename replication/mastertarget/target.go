package mastertarget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"riparo/replication"
	"riparo/replication/nbd"
	"riparo/replication/vault"
)

// Target serves points of one vault.
type Target struct {
	vault  *vault.Vault
	socket string
	server *nbd.Server
	log    *slog.Logger

	mu    sync.Mutex // guards views
	views map[string]published
}

// published is a point that is served.
type published struct {
	*vault.View
	disk  replication.DiskID
	point replication.PointID
}

// socketLimit is what fits the address of a unix socket on Linux, less the
// terminating zero.
const socketLimit = 107

// connections: a disk of a replica holds one until its failover is committed. Only machines
// of this host reach the socket, so the memory that as many hostile ones could take, 4 MiB
// each, is not to be feared.
const connections = 4096

// New makes a target that will serve on a socket in dir. A folder whose name is
// too long for a socket's address is an error that says so.
func New(v *vault.Vault, dir string, log *slog.Logger) (*Target, error) {
	socket, err := filepath.Abs(filepath.Join(dir, "nbd.sock"))
	if err != nil {
		return nil, err
	}
	if len(socket) > socketLimit {
		return nil, &replication.Problem{Code: "target.socket-name",
			Cause:  fmt.Sprintf("the address %s is longer than the %d bytes a socket may have", socket, socketLimit),
			Effect: "recovery points cannot be served", Action: "use a data folder with a shorter name", Remedy: replication.Stop}
	}
	return &Target{vault: v, socket: socket, server: nbd.NewServer(nbd.ServerOptions{Log: log, Connections: connections}), log: log, views: map[string]published{}}, nil
}

// Run serves until ctx ends.
func (t *Target) Run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(t.socket), 0o700); err != nil {
		return fmt.Errorf("make the folder of the NBD socket: %w", err)
	}
	// A socket that a killed daemon left behind refuses a new listener. The vault's
	// lock says that no other daemon serves it.
	if err := os.Remove(t.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old NBD socket: %w", err)
	}
	listener, err := net.Listen("unix", t.socket)
	if err != nil {
		return fmt.Errorf("listen on the NBD socket: %w", err)
	}
	defer t.closeAll()
	return t.server.Serve(ctx, listener)
}

// Publish serves a point of a disk under name and gives its address. Publishing
// what is published is harmless; under the same name there is one point at a time.
func (t *Target) Publish(ctx context.Context, name string, disk replication.DiskID, point replication.PointID) (uri string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	uri = nbd.URI("unix", t.socket, name)
	if now, served := t.views[name]; served {
		if now.disk != disk || now.point != point {
			return "", fmt.Errorf("serve point %s of disk %s as %s: point %s of disk %s has that name", point, disk, name, now.point, now.disk)
		}
		return uri, nil
	}
	view, err := t.vault.View(ctx, disk, point)
	if err != nil {
		return "", fmt.Errorf("open point %s of disk %s: %w", point, disk, err)
	}
	if err := t.server.Add(name, nbd.Export{Source: view}); err != nil {
		return "", errors.Join(fmt.Errorf("serve point %s of disk %s: %w", point, disk, err), view.Close())
	}
	t.views[name] = published{view, disk, point}
	t.log.Info("recovery point served", "export", name, "disk", disk, "point", point)
	return uri, nil
}

// Withdraw ends what Publish began; machines that still read from it see errors.
func (t *Target) Withdraw(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	view, served := t.views[name]
	if !served {
		return nil
	}
	delete(t.views, name)
	t.server.Remove(name)
	t.log.Info("recovery point not served any more", "export", name, "disk", view.disk, "point", view.point)
	return view.Close()
}

func (t *Target) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, view := range t.views {
		if err := view.Close(); err != nil {
			t.log.Warn("close a published point", "export", name, "error", err)
		}
		delete(t.views, name)
	}
}
