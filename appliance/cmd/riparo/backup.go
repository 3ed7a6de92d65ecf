package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/web/api"
)

func newBackup(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			b, err := client.Backups(c.Context())
			if err != nil {
				return err
			}
			return t.result(b, func(w io.Writer) { printBackups(w, b) })
		})
	}
	c := &cobra.Command{
		Use:     "backup [list | create | fetch NAME FILE | plan …]",
		GroupID: groupAppliance,
		Short:   "Save what the appliance knows: list, create, fetch, say how often",
		Long: `A backup holds the state of the appliance, its certificates and its keys, sealed with a
passphrase. Recovery points are in the vault and not part of it. With a backup, the
passphrase and the vault, ` + "`riparo restore`" + ` makes another computer this appliance.`,
		RunE: list,
	}
	to.add(c)
	var w wait
	create := &cobra.Command{
		Use:   "create",
		Short: "Save the state of the appliance now",
		Args:  arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				started, err := client.BackUp(c.Context())
				if err != nil {
					return err
				}
				return t.asked(c.Context(), client, asked{Name: "the appliance", Verb: "back up", Job: started.Job}, w)
			})
		},
	}
	w.add(create)
	c.AddCommand(&cobra.Command{Use: "list", Short: "List the backups and how they are made", Args: arguments(), RunE: list}, create, newFetch(t, &to), newPlan(t, &to))
	return c
}

func printBackups(w io.Writer, b api.Backups) {
	every := "only when asked for"
	if b.Plan.EverySeconds > 0 {
		every = "every " + (time.Duration(b.Plan.EverySeconds) * time.Second).String()
	}
	sealed := "none: no backup is made before one is chosen"
	if b.Sealed {
		sealed = "chosen"
	}
	printFields(w, []table.Row{{"folder", b.Plan.Folder}, {"made", every}, {"kept", b.Plan.Keep}, {"passphrase", sealed}, {"newest", clock(b.Saved)}})
	if b.Problem != nil {
		fmt.Fprintf(w, "the last attempt gave none: %s\n", b.Problem.Cause)
	}
	if len(b.Kept) == 0 {
		return
	}
	var rows []table.Row
	for _, k := range b.Kept {
		state := "good"
		if k.Problem != nil {
			state = k.Problem.Cause
		}
		rows = append(rows, table.Row{k.Name, clock(k.Created), sizeOf(k.Bytes), orDash(k.Appliance), k.Version, state})
	}
	tabulate(w, table.Row{"backup", "of", "size", "appliance", "Riparo", "header"}, rows)
}

func newFetch(t *terminal, to *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "fetch NAME FILE",
		Short: "Write a backup to a new file, sealed as it is",
		Args:  arguments("NAME", "FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				n, err := fetch(c.Context(), client, args[0], args[1])
				if err != nil {
					return err
				}
				return t.result(map[string]any{"file": args[1], "bytes": n}, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", args[1], sizeOf(n)) })
			})
		},
	}
}

// fetch gives the file its name when all of it came. A file that is there stays.
func fetch(ctx context.Context, client *api.Client, name, file string) (n int64, err error) {
	unwritten := func(err error) error {
		return &replication.Problem{Code: "file.unwritten", Cause: fmt.Sprintf("%s cannot be written: %v", file, err), Effect: "there is no copy of the backup",
			Action: "choose another name or place; a file that is there is never written over", Remedy: replication.Stop, Err: err}
	}
	if _, err := os.Lstat(file); err == nil { // told before all of it came
		return 0, unwritten(&fs.PathError{Op: "create", Path: file, Err: fs.ErrExist})
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".unfinished-*")
	if err != nil {
		return 0, unwritten(err)
	}
	defer os.Remove(f.Name()) // does nothing once it has its name
	if n, err = client.FetchBackup(ctx, name, f); err != nil {
		return n, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return n, unwritten(err)
	}
	// Whoever makes a file of this name meanwhile keeps it.
	own, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return n, unwritten(err)
	}
	if err := errors.Join(own.Close(), os.Rename(f.Name(), file)); err != nil {
		return n, unwritten(errors.Join(err, os.Remove(file)))
	}
	return n, nil
}

func newPlan(t *terminal, to *connection) *cobra.Command {
	var wanted api.BackupPlan
	var every time.Duration
	var file string
	c := &cobra.Command{
		Use:   "plan [--folder DIR] [--every TIME] [--keep N] [--passphrase-file FILE]",
		Short: "Say where to, how often and how many backups are kept, and choose the passphrase",
		Long: `Say how backups are made. What no flag says stays as it is. The passphrase, of at least
12 characters, is read from FILE ("-" is standard input). The appliance does not keep
it: note it where it is found when the appliance is gone.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				b, err := client.Backups(c.Context())
				if err != nil {
					return err
				}
				plan := b.Plan
				if c.Flags().Changed("folder") {
					plan.Folder = wanted.Folder
				}
				if c.Flags().Changed("every") {
					plan.EverySeconds = int64(every.Seconds())
				}
				if c.Flags().Changed("keep") {
					plan.Keep = wanted.Keep
				}
				if file != "" {
					if plan.Passphrase, err = t.secret(c, file, "passphrase", "nothing was changed"); err != nil {
						return err
					}
				}
				if err := client.SaveBackupPlan(c.Context(), plan); err != nil {
					return err
				}
				if b, err = client.Backups(c.Context()); err != nil {
					return err
				}
				return t.result(b, func(w io.Writer) { printBackups(w, b) })
			})
		},
	}
	c.Flags().StringVar(&wanted.Folder, "folder", "", "folder on the appliance, best on another disk or a share")
	c.Flags().DurationVar(&every, "every", 0, "time between two backups, as in 24h; 0: only when asked for")
	c.Flags().IntVar(&wanted.Keep, "keep", 0, "how many are kept")
	c.Flags().StringVar(&file, "passphrase-file", "", `file that holds the passphrase; "-" is standard input`)
	return c
}
