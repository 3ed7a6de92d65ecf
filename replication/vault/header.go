package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

const (
	headerMagic = "RIPAROVT"
	headerSize  = 64
)

func (v *Vault) headerPath() string { return filepath.Join(v.dir, headerName) }

// readHeader reads the vault's own file, or finds out what it said. fresh reports that
// there is no vault yet.
func (v *Vault) readHeader() (fresh bool, err error) {
	name := v.headerPath()
	p, err := v.readFile(name, headerSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		there, err := v.exists()
		if err != nil {
			return false, fmt.Errorf("open vault %s: %w", v.dir, err)
		}
		if !there {
			if _, err := io.ReadFull(v.random(), v.id[:]); err != nil {
				return false, fmt.Errorf("name vault %s: %w", v.dir, err)
			}
			return true, nil
		}
		return false, v.headerFromSegments()
	case err != nil:
		// As with one that is damaged, if there is a segment that says the same.
		if errors.Is(err, fs.ErrPermission) || v.headerFromSegments() != nil || v.unnamed {
			return false, fmt.Errorf("read %s: %w", name, err)
		}
		return false, nil
	}
	var version *versionError
	if err := v.parseHeader(p); errors.As(err, &version) {
		return false, versionProblem(name, version)
	} else if err != nil {
		return false, v.headerFromSegments()
	}
	return false, nil
}

// beginSession raises the session and makes that durable: nothing is sealed before.
func (v *Vault) beginSession() error {
	if v.options.ReadOnly {
		return nil
	}
	v.session++
	// An older program refuses the vault from here on, rather than take blocks that it
	// does not know for damage.
	v.codecs = max(v.codecs, v.options.Compression.codec().generation())
	if err := v.makeFolder(filepath.Join(v.dir, disksName)); err != nil {
		return fmt.Errorf("make vault %s: %w", v.dir, err)
	}
	if err := v.replaceFile(v.dir, headerName, v.encodeHeader()); err != nil {
		return writeProblem("", fmt.Errorf("begin a session of vault %s: %w", v.dir, err))
	}
	return nil
}

// version is that of the files of this vault.
func (v *Vault) version() uint32 {
	n := uint32(plainVersion)
	if v.sealed {
		n = sealedVersion
	}
	return n + v.codecs*codecVersions
}

// learn takes over what the version of a file says of the vault.
func (v *Vault) learn(version uint32) {
	v.sealed = v.sealed || version%2 == 0
	v.codecs = max(v.codecs, (version-plainVersion)/codecVersions)
}

func (v *Vault) encodeHeader() []byte {
	p := make([]byte, headerSize)
	copy(p, headerMagic)
	binary.LittleEndian.PutUint32(p[8:], v.version())
	copy(p[16:32], v.id[:])
	binary.LittleEndian.PutUint64(p[32:], v.session)
	binary.LittleEndian.PutUint32(p[headerSize-4:], checksum(p[:headerSize-4]))
	return p
}

func (v *Vault) parseHeader(p []byte) error {
	if len(p) < headerSize || string(p[:8]) != headerMagic || checksum(p[:headerSize-4]) != binary.LittleEndian.Uint32(p[headerSize-4:]) {
		return errors.New("the header of the vault is damaged")
	}
	version := binary.LittleEndian.Uint32(p[8:])
	if version > formatVersion {
		return &versionError{found: version}
	}
	v.learn(version)
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
			name := filepath.Join(dir, file.Name)
			p, err := v.readFile(name, segmentHeaderSize)
			if err != nil {
				continue
			}
			h, err := parseSegmentHeader(p)
			if version := (*versionError)(nil); errors.As(err, &version) {
				return versionProblem(name, version)
			}
			if err == nil {
				v.id, found = h.vault, true
				v.learn(h.version)
				v.session = max(v.session, h.session+lostSessions)
			}
		}
	}
	if v.unnamed = !found; v.unnamed {
		if _, err := io.ReadFull(v.random(), v.id[:]); err != nil {
			return fmt.Errorf("name vault %s: %w", v.dir, err)
		}
	}
	return nil
}
