package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/keyring"
	"riparo/replication/vault"
	"riparo/replication/vfs"
)

// envKey names the key file.
const envKey = "RIPARO_KEY"

// keyFlags say where the master keys are.
type keyFlags struct {
	file  string
	plain bool // --no-encryption, of the verb that makes vaults
}

func (f *keyFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "key", "", "file with the master key (default: $"+envKey+", or riparo/master.key in the user's configuration folder)")
}

// path is where the key file is, or is to be.
func (f *keyFlags) path() (string, error) {
	if f.file != "" {
		return f.file, nil
	}
	if path := os.Getenv(envKey); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &replication.Problem{
			Code: "vault.key.place", Cause: fmt.Sprintf("this user has no configuration folder for the master key: %v", err), Effect: "nothing was done",
			Action: "say where the key file is, or is to be, with --key FILE or " + envKey, Remedy: replication.Stop, Err: err,
		}
	}
	return filepath.Join(dir, "riparo", "master.key"), nil
}

// unlock adds to the options what a vault needs to be opened: its master key, or for
// a new one the key that it is to have, made if there is none yet. A vault without
// encryption needs nothing. What can be listed without a key is, with lists.
func (f *keyFlags) unlock(t *terminal, dir string, o *vault.Options, lists bool) error {
	glance, err := vault.Look(vfs.OS(), dir)
	if err != nil {
		return nil // opening it tells why
	}
	switch {
	case glance.There && !glance.Encrypted, !glance.There && !o.Create:
		return nil
	case !glance.There && f.plain:
		o.Plain = true
		return nil
	case f.plain:
		return &replication.Problem{
			Code: "vault.key.encrypted", Cause: fmt.Sprintf("the vault %s is encrypted already", dir), Effect: "nothing was done",
			Action: "leave --no-encryption out: it is for a new vault", Remedy: replication.Stop,
		}
	}
	path, err := f.path()
	if err != nil {
		return err
	}
	var ring *keyring.Ring
	made := false
	if glance.There {
		ring, err = keyring.Load(path)
	} else {
		ring, made, err = keyring.LoadOrMake(path, time.Now())
	}
	if err != nil && errors.Is(err, fs.ErrNotExist) && lists {
		return nil
	}
	if err != nil {
		return err
	}
	if made {
		t.remark("A new master key was made in %s. Without it no recovery point can be read:", path)
		t.remark("`%s` makes a copy for a safe place.", keysCommand("export", path))
	}
	o.Keys = ring
	return nil
}

// keysCommand is how a person gives a verb of keys for this key file: there can be
// several, and that of an appliance is in no place that is looked at by itself.
func keysCommand(verb, path string) string {
	return fmt.Sprintf("riparo keys %s --key %s FILE", verb, path)
}
