package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Backup writes a copy of the store as it is now: a state file that Open takes.
// Work goes on meanwhile: the copy is first put beside the file and then sent, so
// that a slow w holds up nobody.
func (s *Store) Backup(w io.Writer) (err error) {
	var f *os.File
	err = s.View(func(tx *Tx) (err error) {
		f, err = s.spool(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("back up the state file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("back up the state file: %w", err)
	}
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("send the copy of the state file: %w", err)
	}
	return nil
}

// spool copies the file as tx sees it to one beside it, which the caller closes
// and removes.
func (s *Store) spool(tx *Tx) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(s.path), unfinished(s.path)+"*")
	if err != nil {
		return nil, problem(s.path, err)
	}
	w := &keepError{w: f}
	if _, err := tx.bolt.WriteTo(w); err != nil {
		if w.err != nil {
			err = w.err
		}
		return nil, errors.Join(problem(s.path, err), f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// keepError keeps the error of a write as it was: bbolt passes on its text only.
type keepError struct {
	w   io.Writer
	err error
}

func (k *keepError) Write(p []byte) (n int, err error) {
	n, err = k.w.Write(p)
	k.err = err
	return n, err
}
