package vault

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

const (
	headerMagic = "RIPAROVT"
	headerSize  = 64
)

// readHeader reads the vault's own file, makes it where there is none, and begins a
// new session.
func (v *Vault) readHeader() error {
	name := filepath.Join(v.dir, headerName)
	p, err := v.readFile(name, headerSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		there, err := v.exists()
		if err != nil {
			return fmt.Errorf("open vault %s: %w", v.dir, err)
		}
		if !there {
			if _, err := rand.Read(v.id[:]); err != nil {
				return fmt.Errorf("name vault %s: %w", v.dir, err)
			}
			break
		}
		if err := v.headerFromSegments(); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("read %s: %w", name, err)
	default:
		var version *versionError
		if err := v.parseHeader(p); errors.As(err, &version) {
			return versionProblem(name, version)
		} else if err != nil {
			if err := v.headerFromSegments(); err != nil {
				return err
			}
		}
	}
	if v.options.ReadOnly {
		return nil
	}
	v.session++
	if err := v.makeFolder(filepath.Join(v.dir, disksName)); err != nil {
		return fmt.Errorf("make vault %s: %w", v.dir, err)
	}
	if err := v.replaceFile(v.dir, headerName, v.encodeHeader()); err != nil {
		return writeProblem("", fmt.Errorf("begin a session of vault %s: %w", v.dir, err))
	}
	return nil
}

func (v *Vault) encodeHeader() []byte {
	p := make([]byte, headerSize)
	copy(p, headerMagic)
	binary.LittleEndian.PutUint32(p[8:], formatVersion)
	copy(p[16:32], v.id[:])
	binary.LittleEndian.PutUint64(p[32:], v.session)
	binary.LittleEndian.PutUint32(p[headerSize-4:], checksum(p[:headerSize-4]))
	return p
}

func (v *Vault) parseHeader(p []byte) error {
	if len(p) < headerSize || string(p[:8]) != headerMagic || checksum(p[:headerSize-4]) != binary.LittleEndian.Uint32(p[headerSize-4:]) {
		return errors.New("the header of the vault is damaged")
	}
	if version := binary.LittleEndian.Uint32(p[8:]); version != formatVersion {
		return &versionError{found: version}
	}
	copy(v.id[:], p[16:32])
	v.session = binary.LittleEndian.Uint64(p[32:])
	return nil
}

// lostSessions is added when the session must be guessed from the segments: more
// openings than ever went by without a new segment.
const lostSessions = 1 << 20

// headerFromSegments finds out what the lost header said.
func (v *Vault) headerFromSegments() error {
	folders, err := v.fs.ReadDir(filepath.Join(v.dir, disksName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open vault %s: %w", v.dir, err)
	}
	found := false
	for _, folder := range folders {
		dir := filepath.Join(v.dir, disksName, folder.Name)
		files, err := v.fs.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, file := range files {
			if _, ok := segmentNumber(file.Name); !ok {
				continue
			}
			p, err := v.readFile(filepath.Join(dir, file.Name), segmentHeaderSize)
			if err != nil {
				continue
			}
			if h, err := parseSegmentHeader(p); err == nil {
				v.id, found = h.vault, true
				v.session = max(v.session, h.session+lostSessions)
			}
		}
	}
	if !found {
		if _, err := rand.Read(v.id[:]); err != nil {
			return fmt.Errorf("name vault %s: %w", v.dir, err)
		}
	}
	return nil
}
