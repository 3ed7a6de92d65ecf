package main

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/vault"
)

// listedPoint is a recovery point as it is printed.
type listedPoint struct {
	Disk replication.DiskID `json:"disk"`
	replication.RecoveryPoint
}

func newDiskPoints(t *terminal) *cobra.Command {
	var flags vaultFlags
	c := &cobra.Command{
		Use:   "points --vault DIR [--disk NAME]",
		Short: "List the recovery points of one disk or all, the oldest first",
		Args:  arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.check(c, false); err != nil {
				return err
			}
			return flags.openForList(c.Context(), t, func(v *vault.Vault) error {
				points, err := flags.list(v)
				if err != nil {
					return err
				}
				return t.result(map[string]any{"points": points}, func(w io.Writer) { printPoints(w, points) })
			})
		},
	}
	flags.add(c)
	return c
}

func (f *vaultFlags) list(v *vault.Vault) ([]listedPoint, error) {
	disks, err := f.disks(v)
	if err != nil {
		return nil, err
	}
	points := []listedPoint{}
	for _, d := range disks {
		list, err := v.Points(d.Disk.ID)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			points = append(points, listedPoint{d.Disk.ID, p})
		}
	}
	return points, nil
}

func printPoints(w io.Writer, points []listedPoint) {
	if len(points) == 0 {
		fmt.Fprintln(w, "There is no recovery point yet. `riparo disk replicate` makes one.")
		return
	}
	var rows []table.Row
	for _, p := range points {
		rows = append(rows, table.Row{p.Disk, p.ID, p.Time.Local().Format(time.DateTime), p.Consistency, sizeOf(p.ChangedBytes), sizeOf(p.StoredBytes)})
	}
	tabulate(w, table.Row{"disk", "point", "time", "consistency", "changed", "stored"}, rows)
}
