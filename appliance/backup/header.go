package backup

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
)

const (
	magic     = "riparo backup "
	format    = 1
	maxHeader = 64 << 10
)

// Header is what anybody can read of a backup.
type Header struct {
	Format    int       `json:"format"`
	Schema    int       `json:"schema"`  // of the state file
	Version   string    `json:"version"` // of the Riparo that wrote it
	Appliance string    `json:"appliance"`
	Created   time.Time `json:"created"`
	Identity  []byte    `json:"identity"` // see Key
}

// manifest closes the archive: what is in it.
type manifest struct {
	Header
	Files []file `json:"files"`
}

type file struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ReadHeader reads the two lines before the archive.
func ReadHeader(r *bufio.Reader) (Header, error) {
	first, err := readLine(r, 64)
	if err != nil || !strings.HasPrefix(first, magic) {
		return Header{}, &replication.Problem{Code: "backup.foreign", Cause: "the file is not a backup of Riparo", Effect: "nothing was restored",
			Action: "choose a file that riparo backup wrote, its name ends in .riparo-backup", Remedy: replication.Stop, Err: err}
	}
	if first != fmt.Sprint(magic, format) {
		return Header{}, newer(fmt.Sprintf("its format is %q, this program knows %q", strings.TrimPrefix(first, magic), fmt.Sprint(format)))
	}
	second, err := readLine(r, maxHeader)
	var h Header
	if err == nil {
		err = json.Unmarshal([]byte(second), &h)
	}
	if err != nil {
		return h, damaged(fmt.Errorf("its header cannot be read: %w", err))
	}
	return h, h.check()
}

// check refuses what this program cannot hold.
func (h Header) check() error {
	switch {
	case h.Schema > store.Schema():
		return newer(fmt.Sprintf("its state has schema version %d, this program knows up to %d", h.Schema, store.Schema()))
	case h.Schema < 1 || h.Format != format:
		return damaged(errors.New("its header says nothing sensible"))
	}
	return nil
}

func newer(why string) error {
	return &replication.Problem{Code: "backup.newer", Cause: "the backup was written by a newer Riparo: " + why, Effect: "nothing was restored",
		Action: "restore it with that version or a later one", Remedy: replication.Stop}
}

// readLine reads a line of at most limit bytes, without its end.
func readLine(r *bufio.Reader, limit int) (string, error) {
	var line []byte
	for {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return "", err
		case b == '\n':
			return string(line), nil
		case len(line) == limit:
			return "", errors.New("a line is too long")
		}
		line = append(line, b)
	}
}
