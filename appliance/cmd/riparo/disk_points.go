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
				points, sick, err := flags.list(v)
				if err != nil {
					return err
				}
				told := map[string]any{"points": points}
				if len(sick) > 0 {
					told["unreadable"] = sick
				}
				if err := t.result(told, func(w io.Writer) {
					printPoints(w, points)
					for _, d := range sick {
						fmt.Fprintf(w, "disk %s cannot be read: %s\n", d.Disk, d.Cause)
					}
				}); err != nil {
					return err
				}
				return sickError(sick)
			})
		},
	}
	flags.add(c)
	return c
}

// sickDisk is a disk that cannot be read now. It does not take the others along.
type sickDisk struct {
	Disk   replication.DiskID `json:"disk"`
	Cause  string             `json:"cause"`
	Remedy string             `json:"remedy,omitempty"`
}

func sickOf(id replication.DiskID, err error) sickDisk {
	p := replication.AsProblem(err)
	return sickDisk{id, p.Cause, p.Action}
}

// sickError ends a verb with status 1 after it has told which disks are not in its result.
func sickError(sick []sickDisk) error {
	if len(sick) == 0 {
		return nil
	}
	return &saidError{fmt.Sprintf("%d disks cannot be read", len(sick))}
}

// list gives the points of the disks that the flags mean, and which of several disks
// cannot be read. Of one that was asked for by name that is an error.
func (f *vaultFlags) list(v *vault.Vault) (points []listedPoint, sick []sickDisk, err error) {
	disks, err := f.disks(v)
	if err != nil {
		return nil, nil, err
	}
	points = []listedPoint{}
	for _, d := range disks {
		list, err := v.Points(d.Disk.ID)
		switch {
		case err != nil && f.disk != "":
			return nil, nil, err
		case err != nil:
			sick = append(sick, sickOf(d.Disk.ID, err))
		}
		for _, p := range list {
			points = append(points, listedPoint{d.Disk.ID, p})
		}
	}
	return points, sick, nil
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
