package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/image"
	"riparo/replication/vault"
)

func newDiskExport(t *terminal) *cobra.Command {
	var flags vaultFlags
	var point, formatName string
	var overwrite bool
	c := &cobra.Command{
		Use:   "export --vault DIR --disk NAME [--point ID] [--format FORMAT] FILE",
		Short: "Write a recovery point as an image",
		Long: `Write a recovery point as an image, sparse where the format allows it. The file
has its name only when it is complete. A format that Riparo does not write itself
is written by qemu-img, if that is installed.`,
		Args: arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := flags.check(c, true); err != nil {
				return err
			}
			format, err := image.ParseFormat(formatName)
			if err != nil {
				return usagef(c, "--format %s: want one of %v", formatName, image.Formats)
			}
			return flags.open(c.Context(), t, vault.Options{ReadOnly: true}, func(v *vault.Vault) (err error) {
				p, err := flags.point(v, point)
				if err != nil {
					return err
				}
				view, err := v.View(c.Context(), flags.id(), p.ID)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, view.Close()) }()
				debug.SetGCPercent(streamGCPercent)
				bar := t.progress("exporting " + flags.disk)
				defer bar.end()
				out, err := image.Export(c.Context(), view, args[0], format, image.ExportOptions{Overwrite: overwrite || isEmptyFile(args[0]), Progress: bar.at})
				if err != nil {
					return err
				}
				bar.end()
				return t.result(struct {
					Disk  replication.DiskID  `json:"disk"`
					Point replication.PointID `json:"point"`
					image.Exported
				}{flags.id(), p.ID, out}, func(w io.Writer) {
					fmt.Fprintf(w, "%s: disk %s as of %s, %s, %s, in %.1f s\n", out.Path, flags.disk, p.Time.Local().Format(time.DateTime), format, sizeOf(out.Size), out.Seconds)
				})
			})
		},
	}
	flags.add(c)
	c.Flags().StringVar(&point, "point", "", "recovery point (default: the latest)")
	c.Flags().StringVar(&formatName, "format", string(image.Raw), fmt.Sprintf("one of %v", image.Formats))
	c.Flags().BoolVar(&overwrite, "overwrite", false, "replace FILE if it exists, once the new one is complete")
	return c
}

// isEmptyFile: a file without content, as mktemp makes one, is no loss.
func isEmptyFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}
