package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/web/api"
)

func newKept(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			all, err := client.Kept(c.Context())
			if err != nil {
				return err
			}
			return t.result(map[string]any{"kept": all}, func(w io.Writer) { printKept(w, all) })
		})
	}
	c := &cobra.Command{
		Use:     "kept [list | erase MACHINE --confirm NAME]",
		GroupID: groupAround,
		Short:   "List what the vault keeps of machines that are not protected; erase it",
		Long: `List the recovery points that the vault keeps of machines that are not protected any
more, because "disable --keep-points" left them, or because a restored configuration does
not know the machine. They stay until they are erased; "disk serve" and "disk export" read
them.`,
		RunE: list,
	}
	to.add(c)
	var confirm string
	erase := &cobra.Command{Use: "erase MACHINE --confirm NAME", Short: "Erase what is kept of a machine; takes four eyes", Args: arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				k, err := keptNamed(c.Context(), client, args[0])
				if err != nil {
					return err
				}
				if err := client.EraseKept(c.Context(), k.ID, confirm); err != nil {
					return err
				}
				return t.result(map[string]any{"machine": k.ID, "erased": true}, func(w io.Writer) { fmt.Fprintf(w, "What was kept of %s is erased.\n", k.Name) })
			})
		}}
	addConfirm(erase, &confirm)
	c.AddCommand(&cobra.Command{Use: "list", Short: "List what is kept", Args: arguments(), RunE: list}, erase)
	return c
}

func keptNamed(ctx context.Context, client *api.Client, word string) (api.Kept, error) {
	all, err := client.Kept(ctx)
	if err != nil {
		return api.Kept{}, err
	}
	return named("kept machine", word, all,
		func(k api.Kept) string { return k.ID },
		func(k api.Kept) string { return k.Name },
		func(k api.Kept) string { return fmt.Sprintf("%s (%s, %d points)", k.Name, k.ID, k.Points) })
}

func printKept(w io.Writer, all []api.Kept) {
	if len(all) == 0 {
		fmt.Fprintln(w, "The vault keeps nothing of machines that are not protected.")
		return
	}
	var rows []table.Row
	for _, k := range all {
		stays := "" // why it cannot be erased
		switch {
		case slices.ContainsFunc(k.Disks, func(d api.KeptDisk) bool { return d.Unread }):
			stays = "cannot be read"
		case !k.LockedUntil.IsZero():
			stays = "locked until " + clock(k.LockedUntil)
		}
		rows = append(rows, table.Row{k.Name, k.ID, len(k.Disks), k.Points, clock(k.Newest), sizeOf(k.StoredBytes), stays})
	}
	tabulate(w, table.Row{"machine", "id", "disks", "points", "newest", "stored", "stays as it is"}, rows)
}
