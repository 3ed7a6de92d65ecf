package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/vault"
)

// damage is a vault.Damage as it is printed.
type damage struct {
	Disk    replication.DiskID    `json:"disk"`
	Points  []replication.PointID `json:"points"`
	Head    bool                  `json:"head"` // the disk's newest content needs it
	Offset  int64                 `json:"offset"`
	Length  int64                 `json:"length"`
	Segment uint32                `json:"segment"`
	Reason  string                `json:"reason"`
}

func printable(list []vault.Damage) []damage {
	out := []damage{}
	for _, d := range list {
		points := d.Points
		if points == nil {
			points = []replication.PointID{}
		}
		out = append(out, damage{d.Disk, points, d.Head, d.Extent.Offset, d.Extent.Length, d.Segment, d.Reason})
	}
	return out
}

// harmful divides damage by whether a point or the head needs what is damaged.
func harmful(all []vault.Damage) (bad, harmless []vault.Damage) {
	for _, d := range all {
		if d.Harmless {
			harmless = append(harmless, d)
		} else {
			bad = append(bad, d)
		}
	}
	return bad, harmless
}

func (d damage) String() string {
	what := fmt.Sprintf("disk %s, segment %d: %s", d.Disk, d.Segment, d.Reason)
	if d.Length > 0 {
		what += fmt.Sprintf("; bytes %d to %d of the disk", d.Offset, d.Offset+d.Length-1)
	}
	switch {
	case len(d.Points) > 0:
		names := make([]string, len(d.Points))
		for i, p := range d.Points {
			names[i] = string(p)
		}
		what += " in the points " + strings.Join(names, ", ")
	case d.Head:
		what += " in what no point has yet"
	default:
		what += ", which no point needs"
	}
	return what
}

func newDiskVerify(t *terminal) *cobra.Command {
	var flags vaultFlags
	var repairFrom string
	var raw bool
	c := &cobra.Command{
		Use:   "verify --vault DIR [--disk NAME] [--repair-from SOURCE [--raw]]",
		Short: "Read everything again and check it; repair what a source still has",
		Long: `Read all that the vault stores, check it against its checksums, and list what is
damaged and which recovery points need it. The exit status is 1 if anything is that
a recovery point or the newest content needs.

With --repair-from, damaged blocks of the disk are taken from SOURCE, the disk as
it is now. Where it still has what was written, every point that needs the block is
whole again. Elsewhere older points stay damaged; the newest content takes what SOURCE
has there, and the next replication of the disk reads it once more.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.check(c, repairFrom != ""); err != nil {
				return err
			}
			return flags.open(c.Context(), t, vault.Options{ReadOnly: repairFrom == ""}, func(v *vault.Vault) error {
				disks, err := flags.disks(v)
				if err != nil {
					return err
				}
				var healed []vault.Damage
				if repairFrom != "" {
					if healed, err = repair(c, v, disks[0], repairFrom, raw); err != nil {
						return err
					}
				}
				return verify(c, t, v, flags, healed)
			})
		},
	}
	flags.add(c)
	c.Flags().StringVar(&repairFrom, "repair-from", "", "file or block device with the disk as it is now")
	addRaw(c, &raw)
	return c
}

// repair lets the vault take damaged blocks from a source.
func repair(c *cobra.Command, v *vault.Vault, d vault.DiskInfo, path string, raw bool) (healed []vault.Damage, err error) {
	source, err := openSource(path, raw)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	healed, _, err = v.Heal(c.Context(), d.Disk.ID, source)
	if err != nil {
		return healed, err
	}
	return healed, source.Check()
}

func verify(c *cobra.Command, t *terminal, v *vault.Vault, flags vaultFlags, healed []vault.Damage) error {
	bar := t.progress("verifying")
	defer bar.end()
	options := vault.VerifyOptions{Progress: bar.at}
	if flags.disk != "" {
		options.Disks = []replication.DiskID{flags.id()}
	}
	report, err := v.Verify(c.Context(), options)
	if err != nil {
		return err
	}
	bar.end()
	bad, harmless := harmful(report.Damage)
	found := printable(bad)
	if err := t.result(map[string]any{
		"disks": report.Disks, "points": report.Points, "segments": report.Segments, "bytes": report.Bytes,
		"damage": found, "harmless": printable(harmless), "healed": printable(healed), "verified": len(found) == 0,
	}, func(w io.Writer) {
		for _, h := range printable(healed) {
			fmt.Fprintf(w, "healed: %s\n", h)
		}
		for _, d := range found {
			fmt.Fprintf(w, "damaged: %s\n", d)
		}
		for _, d := range printable(harmless) {
			fmt.Fprintf(w, "harmless: %s\n", d)
		}
		if len(found) == 0 {
			fmt.Fprintf(w, "All is well: %d disks, %d recovery points, %s read and checked.\n", report.Disks, report.Points, sizeOf(report.Bytes))
		}
	}); err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	return &saidError{fmt.Sprintf("%d places are damaged", len(found))}
}
