package vault

import (
	"errors"

	"riparo/replication/vfs"
)

// Glance is what can be told of a vault without opening it.
type Glance struct {
	There     bool
	Encrypted bool
	Master    string // the master key that opens it; empty also when its key files are damaged
}

// Look tells whether there is a vault in a folder, and which master key opens it. It
// takes no lock and changes nothing: what it tells is for those who are about to open
// the vault, and need to know with which key.
func Look(fsys vfs.FS, dir string) (Glance, error) {
	v := &Vault{fs: fsys, dir: dir}
	there, err := v.exists()
	if err != nil || !there {
		return Glance{}, err
	}
	f, _, err := v.readKeys(dir)
	switch {
	case err == nil:
		return Glance{There: true, Encrypted: true, Master: f.keys[len(f.keys)-1].wrapper}, nil
	case !errors.Is(err, errNoKeys):
		return Glance{There: true, Encrypted: true}, nil // opening it tells why
	}
	p, err := v.readFile(v.headerPath(), headerSize)
	if err == nil {
		err = v.parseHeader(p)
	}
	return Glance{There: true, Encrypted: err == nil && v.sealed}, nil
}
