package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/vault"
)

// pruned is what prune did to one disk.
type pruned struct {
	Disk    replication.DiskID    `json:"disk"`
	Kept    int                   `json:"kept"`
	Dropped []replication.PointID `json:"dropped"`
}

func newDiskPrune(t *terminal) *cobra.Command {
	var flags vaultFlags
	var keep string
	c := &cobra.Command{
		Use:   "prune --vault DIR [--disk NAME] --keep RULES",
		Short: "Drop the recovery points that rules of retention let go",
		Long: `Drop the recovery points that rules of retention let go. RULES are
AGE:INTERVAL,…, the youngest first: "1h:all,24h:5m,15d:1h" keeps every point of
the last hour, one in five minutes of the last day, and one an hour for 15 days.
The newest point is always kept, whatever its age.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.check(c, false); err != nil {
				return err
			}
			if keep == "" {
				return usagef(c, "--keep RULES is missing, for instance --keep %s", replication.DefaultRetention())
			}
			rules, err := replication.ParseRetention(keep)
			if err != nil {
				return usagef(c, "--keep: %w", err)
			}
			return flags.open(c.Context(), t, vault.Options{}, func(v *vault.Vault) error {
				before := v.Usage().StoredBytes
				disks, err := flags.disks(v)
				if err != nil {
					return err
				}
				all, sick := []pruned{}, []sickDisk(nil)
				for _, d := range disks {
					if d.Trouble != nil && flags.disk == "" {
						sick = append(sick, sickOf(d.Disk.ID, d.Trouble))
						continue
					}
					if d.Disk.Machine != "" {
						if flags.disk != "" {
							return machineProblem(d.DiskState)
						}
						t.remark("disk %s belongs to a protected machine: its policy decides what is kept", d.Disk.ID)
						continue
					}
					points, err := v.Points(d.Disk.ID)
					if err != nil {
						return err
					}
					drop := due(rules, points, time.Now())
					if err := v.Drop(c.Context(), d.Disk.ID, drop); err != nil {
						return err
					}
					if err := v.Compact(c.Context(), d.Disk.ID); err != nil {
						return err
					}
					if drop == nil {
						drop = []replication.PointID{}
					}
					all = append(all, pruned{d.Disk.ID, len(points) - len(drop), drop})
				}
				freed := max(before-v.Usage().StoredBytes, 0)
				told := map[string]any{"disks": all, "freed_bytes": freed}
				if len(sick) > 0 {
					told["unreadable"] = sick
				}
				if err := t.result(told, func(w io.Writer) {
					for _, p := range all {
						fmt.Fprintf(w, "disk %s: %d recovery points dropped, %d kept\n", p.Disk, len(p.Dropped), p.Kept)
					}
					for _, d := range sick {
						fmt.Fprintf(w, "disk %s cannot be read and was left as it is: %s\n", d.Disk, d.Cause)
					}
				}); err != nil {
					return err
				}
				return sickError(sick)
			})
		},
	}
	flags.add(c)
	c.Flags().StringVar(&keep, "keep", "", "rules of retention")
	return c
}

// due are the points of a disk, in the vault's order, that rules let go. A person asks for
// it by the clock: the time that a vault trusts stands still while nobody has it open.
func due(rules replication.Retention, points []replication.RecoveryPoint, now time.Time) []replication.PointID {
	newestFirst := slices.Clone(points)
	slices.Reverse(newestFirst)
	return rules.Drop(newestFirst, now)
}

// machineProblem refuses to do by hand what an appliance does for its machines.
func machineProblem(d replication.DiskState) error {
	return &replication.Problem{
		Code:   "disk.protected",
		Cause:  fmt.Sprintf("disk %s belongs to machine %s, which an appliance protects", d.Disk.ID, d.Disk.Machine),
		Effect: "nothing was changed", Action: "use the appliance for its machines, and another disk name here", Remedy: replication.Stop,
	}
}
