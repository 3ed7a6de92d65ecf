package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"riparo/appliance"
	"riparo/appliance/backup"
	"riparo/replication"
	"riparo/replication/vfs"
	"riparo/store"
)

func newRestore(t *terminal) *cobra.Command {
	var data, passphrase, vault, address string
	var replace bool
	c := &cobra.Command{
		Use:     "restore BACKUP --data DIR [--vault DIR] [--address NAME] [--passphrase-file FILE] [--replace]",
		GroupID: groupAppliance,
		Short:   "Make this computer the appliance that a backup was made of",
		Long: `Bring back what an appliance knew, from a file that ` + "`riparo backup`" + ` wrote, into the data
folder DIR. The daemon must not run there. Attach the vault first; say with --vault
where it is when that is another place than before. The backup is compared as a whole, and
the vault looked for, before anything is replaced. Then start the daemon: replication
goes on where the vault left it. The old appliance must stay off.

Jobs that were under way then do not go on by themselves: restart or cancel each.
Accounts and API tokens are as they were then: revoke again what was revoked since.

The passphrase is asked for, or read from FILE ("-" is standard input).`,
		Args: arguments("BACKUP"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if data == "" {
				return usagef(c, "want --data DIR")
			}
			f, err := os.Open(args[0])
			if err != nil {
				return &replication.Problem{Code: "backup.unread", Cause: fmt.Sprintf("the backup cannot be read: %v", err), Effect: "nothing was restored",
					Action: "check its name and who may read it", Remedy: replication.Stop, Err: err}
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			if vault != "" {
				if vault, err = filepath.Abs(vault); err != nil {
					return err
				}
			}
			if address, err = appliance.PlainAddress(address); err != nil {
				return err
			}
			if passphrase, err = t.secret(c, passphrase, "passphrase", "nothing was restored"); err != nil {
				return err
			}
			if err := free(data); err != nil {
				return err
			}
			if err := os.MkdirAll(data, 0o700); err != nil {
				return err
			}
			willStart := func(keys string, place store.VaultPlace) error {
				return appliance.WillStart(vfs.OS(), cmp.Or(place.Path, filepath.Join(data, "vault")), keys, place)
			}
			done, err := backup.Stage(c.Context(), data, f, passphrase, backup.Options{Vault: vault, Address: address, Replace: replace, Actor: "command line", Judge: willStart})
			if err != nil {
				return err
			}
			if _, err := backup.Apply(data); err != nil {
				return err
			}
			done.Vault = cmp.Or(done.Vault, filepath.Join(data, "vault"))
			done.Identity = nil // of no use to who reads this
			return t.result(done, func(w io.Writer) {
				fmt.Fprintf(w, "restored the state of %s: machines %d, jobs %d\n", clock(done.Created), done.Machines, done.Jobs)
				if done.Interrupted > 0 {
					fmt.Fprintf(w, "jobs that were under way then and wait for somebody to restart or cancel them: %d\n", done.Interrupted)
				}
				if done.Tokens > 0 {
					fmt.Fprintf(w, "API tokens that are good as they were then; revoke again those that were revoked since: %d\n", done.Tokens)
				}
				fmt.Fprintf(w, "the vault is in %s\n", done.Vault)
				fmt.Fprintf(w, "start it with: riparo serve --data %s\n", data)
			})
		},
	}
	c.Flags().StringVar(&data, "data", "", "folder of everything the appliance keeps; made if need be")
	c.Flags().StringVar(&vault, "vault", "", "where the vault is now (default: where it was)")
	c.Flags().StringVar(&address, "address", "", "name or IP address that the console is reached under from now on; its own certificate will hold for it too")
	c.Flags().StringVar(&passphrase, "passphrase-file", "", `file that holds the passphrase; "-" is standard input (default: ask for it)`)
	c.Flags().BoolVar(&replace, "replace", false, "put aside the state that is in DIR, in a folder replaced-TIME")
	return c
}

// free sees that no daemon works in the data folder.
func free(data string) error {
	path := filepath.Join(data, "state.db")
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	st, err := store.Open(path, store.Options{})
	if p, ok := errors.AsType[*replication.Problem](err); ok && p.Code == "store.locked" {
		return &replication.Problem{Code: p.Code, Cause: p.Cause, Effect: "nothing was restored", Action: "stop the daemon first", Remedy: replication.Stop, Err: err}
	}
	if err != nil { // damaged: a good reason to restore
		return nil
	}
	return st.Close()
}
