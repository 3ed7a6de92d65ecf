package backup

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"

	"riparo/store"
)

// Source is what a backup is made of.
type Source struct {
	Store     *store.Store
	Data      string // the folder that holds pki
	Appliance string // its name
	Version   string
	Key       Key
	Now       time.Time
}

// Names inside of the archive, and in the data folder.
const (
	stateName    = "state.db"
	pkiName      = "pki"
	manifestName = "manifest.json"
)

// Write writes a backup.
func Write(ctx context.Context, w io.Writer, s Source) (err error) {
	recipient, err := age.ParseX25519Recipient(s.Key.Recipient)
	if err != nil {
		return fmt.Errorf("read the key of backups: %w", err)
	}
	h := Header{Format: format, Schema: store.Schema(), Version: s.Version, Appliance: s.Appliance, Created: s.Now.UTC(), Identity: s.Key.Identity}
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s%d\n%s\n", magic, format, line); err != nil {
		return err
	}
	sealed, err := age.Encrypt(w, recipient)
	if err != nil {
		return fmt.Errorf("seal the backup: %w", err)
	}
	squeezed := gzip.NewWriter(sealed)
	a := &archive{ctx: ctx, tar: tar.NewWriter(squeezed), manifest: manifest{Header: h}, now: s.Now}
	if err := a.fill(s); err != nil {
		return err
	}
	return errors.Join(a.tar.Close(), squeezed.Close(), sealed.Close())
}

// archive is a backup that is being written.
type archive struct {
	ctx      context.Context
	tar      *tar.Writer
	manifest manifest
	now      time.Time
}

func (a *archive) fill(s Source) error {
	// A copy beside the state file: the archive wants to know its size first.
	copied, err := os.CreateTemp(s.Data, ".backup-*")
	if err != nil {
		return fmt.Errorf("copy the state file: %w", err)
	}
	defer os.Remove(copied.Name())
	defer copied.Close()
	if err := s.Store.Backup(copied); err != nil {
		return err
	}
	if _, err := copied.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := a.add(stateName, copied); err != nil {
		return err
	}
	for _, name := range slices.Sorted(keys(s.Data, &err)) {
		f, openErr := os.Open(filepath.Join(s.Data, filepath.FromSlash(name)))
		if openErr != nil {
			return fmt.Errorf("read %s for the backup: %w", name, openErr)
		}
		if err := errors.Join(a.add(name, f), f.Close()); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("list the certificates and keys: %w", err)
	}
	text, err := json.Marshal(a.manifest)
	if err != nil {
		return err
	}
	if err := a.tar.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(text)), ModTime: a.now}); err != nil {
		return err
	}
	_, err = a.tar.Write(text)
	return err
}

// keys yields the names of what is in the pki folder, below the data folder.
func keys(data string, failed *error) func(func(string) bool) {
	return func(yield func(string) bool) {
		err := fs.WalkDir(os.DirFS(data), pkiName, func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && name == pkiName {
				return fs.SkipAll
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			if !yield(path.Clean(name)) {
				return fs.SkipAll
			}
			return nil
		})
		*failed = errors.Join(*failed, err)
	}
}

func (a *archive) add(name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: a.now}); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(a.tar, sum), &reader{a.ctx, f})
	if err != nil {
		return fmt.Errorf("put %s into the backup: %w", name, err)
	}
	a.manifest.Files = append(a.manifest.Files, file{Name: name, Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// reader ends when its context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
