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
	var only, confirm string
	var forget bool
	c := &cobra.Command{
		Use:   "rotate --vault DIR [--only master|vault|data] [--disk NAME] [--key FILE] [--forget-old --confirm KEY]",
		Short: "Change the keys of a vault for new ones",
		Long: `Change the keys of a vault: the master key, the key of the vault, and the keys of its
disks, or only some of them. No data is written anew: what is written from now on is
sealed with the new keys, and the old ones go when no block needs them any more.

The old master key stays in the key file, for other vaults that it opens. When there
are none, --forget-old removes it, and all others that are there; --confirm repeats the
name of the one that this vault has. Export a new escrow afterwards: the old one does
not have the new key.

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
			switch {
			case flags.disk != "" && !slices.Contains(what, rotateData):
				return usagef(c, "--disk is for the keys of disks, and --only %s leaves them as they are", only)
			case forget && !slices.Contains(what, rotateMaster):
				return usagef(c, "--forget-old is for the master key, and --only %s leaves it as it is", only)
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
				// What can be refused is refused before anything is changed.
				disks, err := flags.disks(v)
				if err != nil {
					return err
				}
				if forget && confirm != v.KeyState().Master {
					return forgetProblem(path, ring, v.KeyState().Master)
				}
				if slices.Contains(what, rotateMaster) {
					if ring, err = newMaster(c.Context(), v, ring, path, forget); err != nil {
						return err
					}
					t.remark("Make a new escrow: `%s`. The old one does not have the new master key.", keysCommand("export", path))
				}
				if slices.Contains(what, rotateVault) {
					if err := v.RotateVaultKey(c.Context()); err != nil {
						return err
					}
				}
				if slices.Contains(what, rotateData) {
					if err := newDataKeys(c.Context(), v, disks); err != nil {
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
			return t.result(s, s.print)
		},
	}
	flags.add(c)
	c.Flags().StringVar(&only, "only", "", "what to change: master, vault or data, or several of them with commas (default: all)")
	c.Flags().BoolVar(&forget, "forget-old", false, "remove the old master keys from the key file; other vaults that they open are lost")
	c.Flags().StringVar(&confirm, "confirm", "", "for --forget-old: the name of the master key that the vault has, as `keys show` prints it")
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

// forgetProblem says which keys would be gone for good. Nobody knows here what other
// vaults they open: a key file serves all vaults of its user.
func forgetProblem(path string, ring *keyring.Ring, master string) error {
	var names []string
	for _, k := range ring.Keys() {
		names = append(names, k.Name)
	}
	return &replication.Problem{
		Code: "vault.key.confirm", Cause: fmt.Sprintf("--forget-old removes these master keys from %s for good: %s", path, strings.Join(names, ", ")),
		Effect: "nothing was done; any other vault that one of them opens would be lost, and so would backups of this one",
		Action: "be sure that nothing else needs them, and repeat the name of the one that this vault has: --confirm " + master, Remedy: replication.Stop,
	}
}

// newDataKeys changes the data keys of disks. One that cannot be opened keeps no other
// one from it, and is told.
func newDataKeys(ctx context.Context, v *vault.Vault, disks []vault.DiskInfo) error {
	var errs []error
	for _, d := range disks {
		err := d.Trouble
		if err == nil {
			err = v.RotateDataKey(ctx, d.Disk.ID)
		}
		if err != nil && !errors.Is(err, replication.ErrUnknownDisk) {
			errs = append(errs, fmt.Errorf("disk %s: %w", d.Disk.ID, err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	p := *replication.AsProblem(errors.Join(errs...))
	p.Effect = "the keys of these disks are as they were; all others that were to be changed are new"
	return &p
}
