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
	f, err := os.CreateTemp(filepath.Dir(s.path), unfinished(s.path)+"*")
	if err != nil {
		return fmt.Errorf("back up the state file: %w", problem(s.path, err))
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	err = s.View(func(tx *Tx) error {
		_, err := tx.bolt.WriteTo(f)
		return problem(s.path, err)
	})
	if err != nil {
		return fmt.Errorf("back up the state file: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("back up the state file: %w", err)
	}
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("send the copy of the state file: %w", err)
	}
	return nil
}
