package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// place is the host that the daemon runs on, beside libvirt: its files and sockets.
type place interface {
	// dial connects to a socket of the host.
	dial(ctx context.Context, network, address string) (net.Conn, error)
	// scratch is a folder for old content that belongs to owner, as "64055:64055";
	// empty for whoever makes it.
	scratch(folder, owner string) fleece.Scratch
	// make makes a file with this content, and the folders above it.
	make(ctx context.Context, path string, content []byte) error
	// remove deletes a file or a folder with what is in it.
	remove(ctx context.Context, path string) error
	// end reads the last bytes of a file; nothing if there is no file.
	end(ctx context.Context, path string, limit int) ([]byte, error)
	// local says whether it is this host.
	local() bool
	close() error
}

func placeOf(uri *url.URL, trusted []string) (place, error) {
	switch transport(uri) {
	case "ssh":
		return newSSH(uri, trusted)
	case "tls":
		return nowhere{}, nil
	}
	return here{}, nil
}

// here is this host.
type here struct{}

func (here) local() bool { return true }

func (here) close() error { return nil }

func (here) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

func (here) scratch(folder, owner string) fleece.Scratch {
	return ownedFolder{fleece.Folder(folder), owner}
}

// ownedFolder is a scratch folder on this host for a QEMU that runs as another user.
type ownedFolder struct {
	fleece.Folder
	owner string
}

func (f ownedFolder) Make(ctx context.Context, name string, content []byte, reserve int64) error {
	// The folders above are passed through by QEMU's user.
	if err := os.MkdirAll(filepath.Dir(string(f.Folder)), 0o711); err != nil {
		return err
	}
	if err := f.Folder.Make(ctx, name, content, reserve); err != nil {
		return err
	}
	var uid, gid int
	if _, err := fmt.Sscanf(f.owner, "%d:%d", &uid, &gid); err != nil || uid == os.Getuid() || os.Getuid() != 0 {
		return nil
	}
	return errors.Join(os.Chown(string(f.Folder), uid, gid), os.Chown(f.Path(name), uid, gid))
}

func (here) make(_ context.Context, path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

func (here) remove(_ context.Context, path string) error { return os.RemoveAll(path) }

func (here) end(_ context.Context, path string, limit int) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	content := make([]byte, min(size, int64(limit)))
	n, err := file.ReadAt(content, size-int64(len(content)))
	if err == io.EOF {
		err = nil
	}
	return content[:n], err
}

// nowhere is a host whose files cannot be reached.
type nowhere struct{}

// errNowhere is what a TLS address cannot do.
var errNowhere = &replication.Problem{
	Code: "libvirt.no-files", Cause: "over TLS only libvirt's control protocol reaches the host, and not its files and sockets",
	Effect: "disks can be neither read nor made there", Action: "use an address that begins with qemu+ssh", Remedy: replication.Stop,
}

func (nowhere) local() bool { return false }

func (nowhere) close() error { return nil }

func (nowhere) dial(context.Context, string, string) (net.Conn, error) { return nil, errNowhere }

func (nowhere) scratch(folder, _ string) fleece.Scratch { return noScratch(folder) }

func (nowhere) make(context.Context, string, []byte) error { return errNowhere }

func (nowhere) remove(context.Context, string) error { return errNowhere }

func (nowhere) end(context.Context, string, int) ([]byte, error) { return nil, errNowhere }

type noScratch string

func (n noScratch) Path(name string) string { return path.Join(string(n), name) }

func (noScratch) Make(context.Context, string, []byte, int64) error { return errNowhere }

func (noScratch) Remove(context.Context, []string) error { return nil }

func (noScratch) Left(context.Context, []string) (bool, error) { return false, nil }

func (noScratch) Usage(context.Context, []string) (int64, int64, error) { return 0, 0, errNowhere }
