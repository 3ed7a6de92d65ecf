package backup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"riparo/replication"
	"riparo/replication/vfs"
)

// Names in the data folder of a backup that somebody sends.
const (
	inboxName    = "received"
	arrivingName = "arriving"
	arrivedName  = "arrived"
)

const (
	// MaxReceived is the most that is taken of a backup somebody sends: the largest
	// state file and its keys, as if nothing of it could be compressed.
	MaxReceived = maxStateBytes + 64<<20
	// reserve stays free: the daemon goes on writing its log and its state file.
	reserve = 256 << 20
	// lookAfter is how much may come before the room is looked at again, where nobody
	// said how much is to come.
	lookAfter = 16 << 20
)

// space tells how much room a folder has.
var space = vfs.OS().Space

// Inbox keeps the one backup that somebody sends to an appliance without an
// administrator, until its passphrase is known. It is in the data folder, sealed as it
// came, and gone at the next start.
type Inbox struct{ Data string }

// Take keeps a backup in the place of one that came before. Size is how many bytes will
// come, or -1 when nobody knows. Nothing but the header is looked at, and a file that
// has no header of ours is refused before it is written.
//
// Problems: backup.large, backup.no-room, backup.foreign, backup.newer, backup.damaged,
// backup.cut, backup.unwritable.
func (i Inbox) Take(ctx context.Context, r io.Reader, size int64) (_ Kept, err error) {
	if size > MaxReceived {
		return Kept{}, large()
	}
	from := &watched{r: &reader{ctx, io.LimitReader(r, MaxReceived+1)}}
	head, err := io.ReadAll(io.LimitReader(from, int64(len(magic))+64+maxHeader))
	if err != nil {
		return Kept{}, cut(err)
	}
	h, err := ReadHeader(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return Kept{}, err
	}
	folder := filepath.Join(i.Data, inboxName)
	if err := errors.Join(i.Discard(), os.Mkdir(folder, 0o700)); err != nil {
		return Kept{}, unwritable(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Discard())
		}
	}()
	if err := enough(folder, size); err != nil {
		return Kept{}, err
	}
	n, err := pour(filepath.Join(folder, arrivingName), io.MultiReader(bytes.NewReader(head), from))
	switch {
	case from.err != nil:
		return Kept{}, cut(from.err)
	case err != nil:
		return Kept{}, err
	case n > MaxReceived:
		return Kept{}, large()
	}
	if err := os.Rename(filepath.Join(folder, arrivingName), i.file()); err != nil {
		return Kept{}, unwritable(err)
	}
	return Kept{Header: h, Name: arrivedName, Bytes: n}, nil
}

// pour writes what comes to a file and looks now and then whether there is still room.
func pour(path string, r io.Reader) (written int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, unwritable(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		n, err := io.CopyN(f, r, lookAfter)
		written += n
		switch {
		case errors.Is(err, io.EOF):
			return written, nil
		case err != nil:
			return written, unwritable(err)
		}
		if err := enough(filepath.Dir(path), 0); err != nil {
			return written, err
		}
	}
}

func (i Inbox) file() string { return filepath.Join(i.Data, inboxName, arrivedName) }

// Arrived tells of the backup that is kept, if there is one.
func (i Inbox) Arrived() (Kept, bool, error) {
	k, err := look(i.file())
	if errors.Is(err, fs.ErrNotExist) {
		return Kept{}, false, nil
	}
	return k, err == nil, err
}

// Open gives the backup that is kept.
//
// Problems: backup.none.
func (i Inbox) Open() (*os.File, error) {
	f, err := os.Open(i.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &replication.Problem{Code: "backup.none", Cause: "there is no backup to restore", Effect: "nothing was restored",
			Action: "choose the file of the backup and send it", Remedy: replication.Stop, Err: err}
	}
	return f, err
}

// Discard removes what is kept.
func (i Inbox) Discard() error { return os.RemoveAll(filepath.Join(i.Data, inboxName)) }

// enough sees that a folder has room for bytes and for the daemon beside them. Where
// nobody can tell, writing will.
func enough(folder string, bytes int64) error {
	s, err := space(folder)
	if err != nil || s.Free-reserve >= bytes {
		return nil
	}
	return &replication.Problem{Code: "backup.no-room", Cause: fmt.Sprintf("the disk of %s has only %d MiB free", folder, s.Free>>20), Effect: "nothing was restored",
		Action: fmt.Sprintf("make room for %d MiB and try again", (max(bytes, 0)+reserve)>>20), Remedy: replication.Stop}
}

func large() error {
	return &replication.Problem{Code: "backup.large", Cause: fmt.Sprintf("the file is larger than %d MiB, and no backup is", int64(MaxReceived)>>20), Effect: "nothing was restored",
		Action: "choose a file that riparo backup wrote, its name ends in .riparo-backup", Remedy: replication.Stop}
}

func cut(err error) error {
	return &replication.Problem{Code: "backup.cut", Cause: "the backup did not come as a whole", Effect: "nothing was restored",
		Action: "send it again; over a slow line, put it on this computer and give its path", Remedy: replication.Retry, Err: err}
}
