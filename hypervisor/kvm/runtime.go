package kvm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// maxSocketPath is the longest path of a unix socket: 108 bytes with the zero that
// ends it (unix(7)).
const maxSocketPath = 107

// longestSocket is the longest name that is given to a socket.
const longestSocket = "storage.qmp"

// runFolder is where a machine's run-time files lie.
func (s *Site) runFolder(name string) string { return filepath.Join(s.folder, "run", name) }

func (s *Site) runFile(name, file string) string { return filepath.Join(s.runFolder(name), file) }

// socket is the path of one of a machine's sockets: in its run folder, or, when that
// path would be too long, in a short folder that is found again by the site's path and
// the machine's name.
func (s *Site) socket(name, file string) string {
	return filepath.Join(s.socketFolder(name), file)
}

func (s *Site) socketFolder(name string) string {
	folder := s.runFolder(name)
	if len(folder)+len("/"+longestSocket) <= maxSocketPath {
		return folder
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" || len(base) > 60 {
		base = "/tmp"
	}
	sum := sha256.Sum256([]byte(folder))
	return filepath.Join(base, fmt.Sprintf("riparo-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6])))
}

// makeRunFolders makes a machine's run-time folders. Only this user may enter them:
// whoever reaches a QMP socket owns the machine.
func (s *Site) makeRunFolders(name string) error {
	for _, folder := range []string{filepath.Join(s.folder, "run"), s.runFolder(name), s.scratch(name), s.socketFolder(name)} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		if err := ownFolder(folder); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
	}
	return nil
}

// scratch is where captures keep old content.
func (s *Site) scratch(name string) string {
	if s.options.Scratch != "" {
		return filepath.Join(s.options.Scratch, name)
	}
	return s.runFile(name, "scratch")
}

// record is what is remembered of a machine's last run, in state.json.
type record struct {
	Started time.Time `json:"started,omitzero"`
	BootID  string    `json:"boot_id,omitempty"`
	// Ended says how the machine stopped; empty while it runs, and after a crash.
	Ended hypervisor.StopOutcome `json:"ended,omitempty"`
	// Tracked is the point whose bitmaps were added before the first instruction.
	Tracked replication.PointID `json:"tracked,omitempty"`
	// Bitmaps are the raw disks whose bitmaps were saved when QEMU ended.
	Bitmaps map[string]savedBitmaps `json:"bitmaps,omitempty"`
}

func (s *Site) readRecord(name string) (record, error) {
	var r record
	content, err := os.ReadFile(s.runFile(name, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read what is remembered of the last run of %s: %w", name, err)
	}
	return r, nil
}

func (s *Site) writeRecord(name string, r record) error {
	if err := s.makeRunFolders(name); err != nil {
		return err
	}
	if err := writeJSON(s.runFile(name, "state.json"), r); err != nil {
		return fmt.Errorf("remember the run of %s: %w", name, err)
	}
	return nil
}
