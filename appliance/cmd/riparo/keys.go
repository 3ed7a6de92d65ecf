package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/keyring"
	"riparo/replication/vault"
)

func newKeys(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use:     "keys",
		Short:   "Show, change, save and bring back the keys that vaults are encrypted with",
		GroupID: groupDisk,
	}
	c.AddCommand(newKeysShow(t), newKeysExport(t), newKeysImport(t), newKeysRotate(t))
	return c
}

// shownKey is a master key as it is printed.
type shownKey struct {
	Name  string    `json:"name"`
	Made  time.Time `json:"made"`
	Wraps bool      `json:"wraps"` // the one that new vaults get
}

// shownKeys is what a key file and a vault hold.
type shownKeys struct {
	File  string      `json:"file"`
	Keys  []shownKey  `json:"keys"`
	Vault *shownVault `json:"vault,omitempty"`
}

type shownVault struct {
	Dir       string           `json:"dir"`
	Encrypted bool             `json:"encrypted"`
	Master    string           `json:"master,omitempty"` // the master key that opens it
	VaultKey  uint32           `json:"vault_key,omitempty"`
	Disks     []vault.DiskKeys `json:"disks,omitempty"`
}

func shown(path string, r *keyring.Ring) shownKeys {
	s := shownKeys{File: path, Keys: []shownKey{}}
	for _, k := range r.Keys() {
		s.Keys = append(s.Keys, shownKey{k.Name, k.Made, k.Name == r.Master()})
	}
	return s
}

func (s shownKeys) print(w io.Writer) {
	fmt.Fprintf(w, "key file %s\n", s.File)
	var rows []table.Row
	for _, k := range s.Keys {
		use := "opens what it wrapped"
		if k.Wraps {
			use = "new vaults get it"
		}
		rows = append(rows, table.Row{k.Name, clock(k.Made), use})
	}
	tabulate(w, table.Row{"master key", "made", "use"}, rows)
	v := s.Vault
	switch {
	case v == nil:
		return
	case !v.Encrypted:
		fmt.Fprintf(w, "the vault %s is not encrypted\n", v.Dir)
		return
	}
	fmt.Fprintf(w, "the vault %s is opened by master key %s; its own key is number %d\n", v.Dir, v.Master, v.VaultKey)
	rows = nil
	for _, d := range v.Disks {
		rows = append(rows, table.Row{d.Disk, d.Newest, strings.Trim(fmt.Sprint(d.Held), "[]")})
	}
	tabulate(w, table.Row{"disk", "seals with", "has"}, rows)
}

func newKeysShow(t *terminal) *cobra.Command {
	var flags vaultFlags
	c := &cobra.Command{
		Use:   "show [--key FILE] [--vault DIR]",
		Short: "Show which keys there are, never the keys themselves",
		Args:  arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := flags.path()
			if err != nil {
				return err
			}
			ring, err := keyring.Load(path)
			s := shownKeys{File: path, Keys: []shownKey{}}
			if err == nil {
				s = shown(path, ring)
			} else if flags.dir == "" || !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if flags.dir == "" {
				return t.result(s, s.print)
			}
			return flags.openForList(c.Context(), t, func(v *vault.Vault) error {
				state := v.KeyState()
				s.Vault = &shownVault{flags.dir, state.Encrypted, state.Master, state.VaultKey, state.Disks}
				return t.result(s, s.print)
			})
		},
	}
	flags.keyFlags.add(c)
	c.Flags().StringVar(&flags.dir, "vault", "", "folder of a vault, to see its keys too")
	return c
}

func newKeysExport(t *terminal) *cobra.Command {
	var flags keyFlags
	var passphrase string
	c := &cobra.Command{
		Use:   "export FILE [--key FILE] [--passphrase-file FILE]",
		Short: "Save the master keys in an escrow file that a passphrase opens",
		Long: `Write a copy of the master keys to FILE, sealed with a passphrase. Without the master
key a vault is lost: keep the copy, or a printed sheet of it, apart from this machine.
"-" is standard output. The file is of the kind that the tool age opens too.

The passphrase is asked for, or read from a file ("-" is standard input). An appliance
keeps its keys in pki/master.key in its data folder: give that with --key.`,
		Args: arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := flags.path()
			if err != nil {
				return err
			}
			ring, err := keyring.Load(path)
			if err != nil {
				return err
			}
			secret, err := t.secret(c, passphrase, "passphrase", "nothing was exported", "Passphrase: ", "Again: ")
			if err != nil {
				return err
			}
			escrow, err := ring.Export(secret)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				_, err := t.out.Write(escrow)
				return err
			}
			if err := writeNew(args[0], escrow); err != nil {
				return &replication.Problem{
					Code: "vault.key.escrow", Cause: fmt.Sprintf("the escrow cannot be written: %v", err), Effect: "nothing was exported",
					Action: "choose another name or place; a file that is there is never written over", Remedy: replication.Stop, Err: err,
				}
			}
			s := shown(args[0], ring)
			return t.result(s, func(w io.Writer) {
				fmt.Fprintf(w, "master keys of %s: %d, saved in %s\n", path, len(s.Keys), args[0])
			})
		},
	}
	flags.add(c)
	c.Flags().StringVar(&passphrase, "passphrase-file", "", `file that holds the passphrase; "-" is standard input (default: ask for it)`)
	return c
}

// writeNew writes a private file that must not exist, durably.
func writeNew(path string, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// maxEscrow is far more than an escrow of many keys has.
const maxEscrow = 1 << 20

func newKeysImport(t *terminal) *cobra.Command {
	var flags keyFlags
	var passphrase string
	c := &cobra.Command{
		Use:   "import FILE [--key FILE] [--passphrase-file FILE]",
		Short: "Bring master keys back from an escrow file",
		Long: `Read the master keys from an escrow FILE that ` + "`riparo keys export`" + ` wrote, into the key file.
Keys that are there already stay, and new vaults go on getting the one they got. A key
file that cannot be used, because it is damaged or was sealed on another computer, is
set aside under another name.`,
		Args: arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := flags.path()
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return &replication.Problem{
					Code: "vault.key.escrow", Cause: fmt.Sprintf("the escrow cannot be read: %v", err), Effect: "nothing was imported",
					Action: "check its name and who may read it", Remedy: replication.Stop, Err: err,
				}
			}
			defer f.Close()
			escrow, err := io.ReadAll(io.LimitReader(f, maxEscrow))
			if err != nil {
				return fmt.Errorf("read the escrow: %w", err)
			}
			secret, err := t.secret(c, passphrase, "passphrase", "nothing was imported")
			if err != nil {
				return err
			}
			ring, err := keyring.Import(escrow, secret)
			if err != nil {
				return err
			}
			there, err := keyring.Load(path)
			switch {
			case err == nil:
				ring = there.Joined(ring)
			case keyring.Unusable(err):
				aside, err := ring.Replace(path, time.Now())
				if err != nil {
					return err
				}
				t.remark("the key file that was there cannot be used; it is kept as %s", aside)
				s := shown(path, ring)
				return t.result(s, s.print)
			case !errors.Is(err, fs.ErrNotExist):
				return err
			}
			if err := ring.Save(path); err != nil {
				return err
			}
			s := shown(path, ring)
			return t.result(s, s.print)
		},
	}
	flags.add(c)
	c.Flags().StringVar(&passphrase, "passphrase-file", "", `file that holds the passphrase; "-" is standard input (default: ask for it)`)
	return c
}
