package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/appliance"
	"riparo/replication"
	"riparo/store"
	"riparo/store/bundle"
	"riparo/store/logs"
	"riparo/store/redact"
	"riparo/web/api"
)

func newSupportBundle(t *terminal) *cobra.Command {
	var to connection
	var data string
	var list bool
	c := &cobra.Command{
		Use:     "support-bundle [FILE] [--list] [--data DIR]",
		GroupID: groupAround,
		Short:   "Pack log, records and figures into one ZIP file, without secrets",
		Long: `Pack what somebody needs who is to help into one ZIP file: the log, the records, figures
and what the program does just now. Passwords, tokens, keys and sessions are taken out;
names and addresses remain. FILE is riparo-support-TIME.zip by default; an existing file
is not replaced. --list says what would be in it.

With --data DIR it is made from the data folder, when no appliance runs.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file := "riparo-support-" + time.Now().UTC().Format("20060102-150405") + ".zip"
			if len(args) == 1 {
				file = args[0]
			}
			if data != "" {
				return t.supportOffline(c.Context(), data, file, list)
			}
			return to.reach(func(client *api.Client) error {
				if list {
					parts, err := client.SupportParts(c.Context())
					if err != nil {
						return err
					}
					return t.listParts(parts)
				}
				return t.keepBundle(file, func(w io.Writer) error { return client.SupportBundle(c.Context(), w) })
			})
		},
	}
	to.add(c)
	c.Flags().BoolVar(&list, "list", false, "only say what would be in it")
	c.Flags().StringVar(&data, "data", "", "make it from this data folder; no appliance may use it")
	return c
}

func (t *terminal) listParts(parts []bundle.Part) error {
	return t.result(map[string]any{"parts": parts}, func(w io.Writer) {
		var rows []table.Row
		total := int64(0)
		for _, p := range parts {
			rows = append(rows, table.Row{p.Name, sizeOf(p.Size)})
			total += p.Size
		}
		tabulate(w, table.Row{"File", "Size"}, append(rows, table.Row{"", sizeOf(total)}))
	})
}

// keepBundle writes a bundle to a file, which is there as a whole or not at all.
func (t *terminal) keepBundle(file string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return &replication.Problem{Code: "bundle.file", Cause: fmt.Sprintf("the support bundle cannot be written: %v", err), Effect: "nothing was written",
			Action: "name another file", Remedy: replication.Stop, Err: err}
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return t.result(map[string]any{"file": file, "bytes": info.Size()}, func(w io.Writer) {
		fmt.Fprintf(w, "%s, %s\n", file, sizeOf(info.Size()))
	})
}

// supportOffline makes a bundle of what a data folder has.
func (t *terminal) supportOffline(ctx context.Context, data, file string, list bool) (err error) {
	if _, err := os.Stat(data); err != nil {
		return &replication.Problem{Code: "data.unusable", Cause: fmt.Sprintf("the data folder cannot be read: %v", err), Effect: "nothing was written",
			Action: "give the folder that `riparo serve --data` has", Remedy: replication.Stop, Err: err}
	}
	secrets := new(redact.Values)
	secrets.Add(appliance.FileSecrets(data)...)
	var parts []bundle.Part
	st, errStore := openState(filepath.Join(data, "state.db"))
	if st != nil {
		defer func() { err = errors.Join(err, st.Close()) }()
		parts, errStore = bundle.Records(st, secrets)
	}
	if errStore != nil { // a damaged or locked store is a reason to want a bundle
		t.remark("the records are left out: %s", replication.AsProblem(errStore).Cause)
		reason := errStore.Error()
		parts = append(parts, bundle.Part{Name: "records/unread.txt", About: "records", Size: int64(len(reason)),
			Write: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, reason+"\n"); return err }})
	}
	log, err := bundle.Log(logs.NewReader(appliance.LogFolder(data)))
	if err != nil {
		return err
	}
	if parts = append(parts, log...); list {
		return t.listParts(parts)
	}
	return t.keepBundle(file, func(w io.Writer) error { return bundle.Write(ctx, w, version, time.Now(), parts, secrets) })
}

// openState opens the store if there is one.
func openState(path string) (*store.Store, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return store.Open(path, store.Options{})
}
