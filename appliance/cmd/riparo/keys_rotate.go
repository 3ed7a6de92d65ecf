package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/keyring"
	"riparo/replication/vault"
)

// What can be changed.
const (
	rotateMaster = "master"
	rotateVault  = "vault"
	rotateData   = "data"
)

func newKeysRotate(t *terminal) *cobra.Command {
	var flags vaultFlags
	var only string
	var forget bool
	c := &cobra.Command{
		Use:   "rotate --vault DIR [--only master|vault|data] [--disk NAME] [--key FILE] [--forget-old]",
		Short: "Change the keys of a vault for new ones",
		Long: `Change the keys of a vault: the master key, the key of the vault, and the keys of its
disks, or only some of them. No data is written anew: what is written from now on is
sealed with the new keys, and the old ones go when no block needs them any more.

The old master key stays in the key file, for other vaults that it opens. When there
are none, --forget-old removes it. Export a new escrow afterwards: the old one does not
have the new key.

An appliance that runs has its vault in use; stop it first. Its keys are in
pki/master.key in its data folder.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.check(c, false); err != nil {
				return err
			}
			what := []string{rotateMaster, rotateVault, rotateData}
			if only != "" {
				what = strings.Split(only, ",")
				for _, w := range what {
					if w != rotateMaster && w != rotateVault && w != rotateData {
						return usagef(c, "--only %s: want master, vault or data", only)
					}
				}
			}
			path, err := flags.path()
			if err != nil {
				return err
			}
			var s shownKeys
			err = flags.open(c.Context(), t, vault.Options{}, func(v *vault.Vault) error {
				if !v.KeyState().Encrypted {
					return v.RotateVaultKey(c.Context()) // says that there is none
				}
				ring, err := keyring.Load(path)
				if err != nil {
					return err
				}
				if slices.Contains(what, rotateMaster) {
					if ring, err = newMaster(c.Context(), v, ring, path, forget); err != nil {
						return err
					}
				}
				if slices.Contains(what, rotateVault) {
					if err := v.RotateVaultKey(c.Context()); err != nil {
						return err
					}
				}
				if slices.Contains(what, rotateData) {
					if err := flags.newDataKeys(c.Context(), v); err != nil {
						return err
					}
				}
				state := v.KeyState()
				s = shown(path, ring)
				s.Vault = &shownVault{flags.dir, state.Encrypted, state.Master, state.VaultKey, state.Disks}
				return nil
			})
			if err != nil {
				return err
			}
			if slices.Contains(what, rotateMaster) {
				t.remark("Make a new escrow: `riparo keys export`. The old one does not have the new master key.")
			}
			return t.result(s, s.print)
		},
	}
	flags.add(c)
	c.Flags().StringVar(&only, "only", "", "what to change: master, vault or data, or several of them with commas (default: all)")
	c.Flags().BoolVar(&forget, "forget-old", false, "remove the old master keys from the key file; other vaults that they open are lost")
	return c
}

// newMaster makes a master key, durably before the vault needs it, and has the vault
// take it.
func newMaster(ctx context.Context, v *vault.Vault, ring *keyring.Ring, path string, forget bool) (*keyring.Ring, error) {
	ring, err := ring.With(time.Now())
	if err != nil {
		return nil, err
	}
	if err := ring.Save(path); err != nil {
		return nil, err
	}
	if err := v.RotateMasterKey(ctx, ring); err != nil {
		return nil, err
	}
	if forget {
		ring = ring.Newest()
		return ring, ring.Save(path)
	}
	return ring, nil
}

// newDataKeys changes the data keys of the disk that is named, or of all.
func (f *vaultFlags) newDataKeys(ctx context.Context, v *vault.Vault) error {
	disks, err := f.disks(v)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range disks {
		if d.Trouble != nil {
			continue // it cannot be opened, and says so elsewhere
		}
		if err := v.RotateDataKey(ctx, d.Disk.ID); err != nil && !errors.Is(err, replication.ErrUnknownDisk) {
			errs = append(errs, fmt.Errorf("disk %s: %w", d.Disk.ID, err))
		}
	}
	return errors.Join(errs...)
}
