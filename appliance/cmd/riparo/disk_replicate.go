package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/image"
	"riparo/replication/processserver"
	"riparo/replication/resync"
	"riparo/replication/vault"
)

// Modes of a replication, as they are printed.
const (
	modeInitial = "initial"
	modeDelta   = "delta"
	modeResync  = "resync"
)

// streamGCPercent keeps the memory of who moves whole disks near what it uses: almost all of
// that are buffers that are used again, so that collecting often costs next to nothing. It
// does cost while a vault is opened, whose points are many small things.
const streamGCPercent = 10

// replicated is the result of one replication.
type replicated struct {
	Point        replication.PointID `json:"point"`
	Mode         string              `json:"mode"`
	Resumed      bool                `json:"resumed"` // an interrupted one was gone on with
	LogicalBytes int64               `json:"logical_bytes"`
	ReadBytes    int64               `json:"read_bytes"`
	ChangedBytes int64               `json:"changed_bytes"`
	StoredBytes  int64               `json:"stored_bytes"`
	Seconds      float64             `json:"seconds"`
}

func newDiskReplicate(t *terminal) *cobra.Command {
	var flags vaultFlags
	var packed compression
	var changed string
	var raw bool
	c := &cobra.Command{
		Use:   "replicate SOURCE --vault DIR --disk NAME [--changed FILE] [--raw]",
		Short: "Bring one disk into a vault and make a recovery point",
		Long: `Bring one disk, a raw image or a block device, into a vault and make a recovery
point. The first time all of it is copied, without its holes. Later --changed names a
file with the extents that changed since the last point, one {"offset":N,"length":N}
on each line; without it the differences are found by checksum.

Interrupted at any moment and run again, it goes on. Nobody may write to the source
meanwhile: shut the machine down or read a snapshot.`,
		Args: arguments("SOURCE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := flags.check(c, true); err != nil {
				return err
			}
			began := time.Now()
			return flags.withSource(args[0], raw, func(source *image.File) error {
				var extents []replication.Extent // nil: not known
				if c.Flags().Changed("changed") {
					var err error
					if extents, err = readChanged(changed, source.Size()); err != nil {
						return err
					}
				}
				return flags.open(c.Context(), t, vault.Options{Create: true, Compression: vault.Compression(packed)}, func(v *vault.Vault) error {
					debug.SetGCPercent(streamGCPercent)
					r := replicator{vault: v, disk: flags.id(), source: source, changed: extents, bar: t.progress("replicating " + flags.disk)}
					defer r.bar.end()
					out, err := r.run(c.Context(), began)
					if err != nil {
						return err
					}
					r.bar.end()
					out.Seconds = seconds(time.Since(began))
					return t.result(out, func(w io.Writer) { printReplicated(w, flags.disk, out) })
				})
			})
		},
	}
	flags.add(c)
	c.Flags().BoolVar(&flags.plain, "no-encryption", false, "make a new vault without encryption")
	packed.add(c)
	addRaw(c, &raw)
	c.Flags().StringVar(&changed, "changed", "", "file with the extents that changed since the last point; - for standard input")
	return c
}

func printReplicated(w io.Writer, disk string, r replicated) {
	how := map[string]string{modeInitial: "initial replication", modeDelta: "changed extents", modeResync: "differences by checksum"}[r.Mode]
	if r.Resumed {
		how += ", gone on with"
	}
	fmt.Fprintf(w, "disk %s: recovery point %s\n%s of %s: %s read, %s changed, %s stored, %.1f s\n", disk, r.Point, how,
		sizeOf(r.LogicalBytes), sizeOf(r.ReadBytes), sizeOf(r.ChangedBytes), sizeOf(r.StoredBytes), r.Seconds)
}

// addRaw is the flag of verbs that read a disk from a file.
func addRaw(c *cobra.Command, raw *bool) {
	c.Flags().BoolVar(raw, "raw", false, "SOURCE is the disk itself, although it looks like a QCOW2, VHD, VHDX, VMDK or VDI file")
}

func openSource(path string, raw bool) (*image.File, error) {
	if raw {
		return image.OpenFile(path, image.AsRaw)
	}
	return image.OpenFile(path)
}

func (f *vaultFlags) withSource(path string, raw bool, work func(*image.File) error) (err error) {
	source, err := openSource(path, raw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	return work(source)
}

// readChanged reads the list of changed extents. An empty list is a list: nothing
// changed.
func readChanged(path string, size int64) ([]replication.Extent, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, &replication.Problem{
				Code: "changed.unreadable", Cause: fmt.Sprintf("the list of changed extents cannot be read: %v", err), Effect: "nothing was replicated",
				Action: "check its name, or leave it out and differences are found by checksum", Remedy: replication.Stop, Err: err,
			}
		}
		defer f.Close()
		in = f
	}
	extents, err := image.ReadChanged(in, size)
	if extents == nil {
		extents = []replication.Extent{}
	}
	return extents, err
}

// replicator brings one disk into a vault, once.
type replicator struct {
	vault   *vault.Vault
	disk    replication.DiskID
	source  *image.File
	changed []replication.Extent // nil: not known
	bar     *progress
}

// run carries what is needed and makes the recovery point. The instant it shows
// is at: nobody wrote to the source since, or the end finds it out.
func (r *replicator) run(ctx context.Context, at time.Time) (replicated, error) {
	size := r.source.Size()
	state, err := r.vault.State(r.disk)
	if err != nil && !errors.Is(err, replication.ErrUnknownDisk) {
		return replicated{}, err
	}
	if state.Disk.Machine != "" {
		return replicated{}, machineProblem(state)
	}
	out := replicated{Point: replication.NewPointID(at), LogicalBytes: size, Resumed: state.Unmarked}
	// First of all: what a run that was interrupted has cut off is told only of a disk that
	// is as large as it is to be.
	epoch := max(state.Epoch, 1)
	prepared, err := r.vault.Prepare(ctx, replication.Disk{ID: r.disk, Size: size}, epoch)
	if err != nil {
		return replicated{}, err
	}
	var source replication.Source = r.source
	var compared *resync.Comparison
	compare := func(s replication.Source) replication.Source {
		compared = resync.Differences(s, r.vault, r.disk, &resync.Options{Progress: func(p resync.Progress) { r.bar.at(p.Offset, size) }})
		return compared
	}
	switch {
	case state.Point == "":
		out.Mode = modeInitial
		if state.Sequence > 0 { // the beginning of one that was interrupted
			source = compare(source)
		}
	case r.changed != nil:
		out.Mode = modeDelta
		if source, err = r.delta(ctx, state); err != nil {
			return replicated{}, err
		}
		if state.Unmarked {
			source = compare(source)
		}
	default:
		out.Mode = modeResync
		source = compare(source)
	}

	result, err := processserver.Carry(ctx, r.vault, prepared, source, processserver.Options{Epoch: epoch, Progress: func(p processserver.Progress) {
		if compared == nil {
			r.bar.at(p.Offset, size)
		}
	}})
	if err != nil {
		return replicated{}, stopped(err)
	}
	if err := r.source.Check(); err != nil {
		return replicated{}, err
	}
	if err := r.vault.Mark(ctx, replication.Mark{
		Disk: r.disk, Epoch: epoch, Sequence: result.Sequence + 1, Point: out.Point, Time: at,
		Consistency: replication.CrashConsistent, Size: size, Members: []replication.DiskID{r.disk},
	}); err != nil {
		return replicated{}, stopped(err)
	}
	out.ReadBytes, out.ChangedBytes = result.Read, result.Changed
	if compared != nil {
		p := compared.Progress()
		out.ReadBytes = p.Read + p.Reread
	}
	out.StoredBytes, err = r.stored(out.Point)
	return out, err
}

// stopped says what a full vault means here. In an appliance replication waits and
// goes on by itself; a command has ended.
func stopped(err error) error {
	p := *replication.AsProblem(err)
	if p.Code != vault.CodeFull {
		return err
	}
	p.Effect = "the replication stopped; every acknowledged change and every recovery point is safe"
	p.Action = "free space or prune recovery points, then run the same command again; it goes on"
	return &p
}

// delta is the source limited to what may differ from the vault's head: what is
// said to have changed, what an interrupted transfer has touched, and what lies
// beyond the end that the disk had.
func (r *replicator) delta(ctx context.Context, state replication.DiskState) (replication.Source, error) {
	size := r.source.Size()
	extents := append([]replication.Extent{}, r.changed...)
	last, err := r.vault.View(ctx, r.disk, state.Point)
	if err != nil {
		return nil, err
	}
	if grown := (replication.Extent{Offset: last.Size(), Length: size - last.Size()}); grown.Length > 0 {
		extents = append(extents, grown)
	}
	if err := last.Close(); err != nil {
		return nil, err
	}
	touched, err := r.vault.Changed(ctx, r.disk, state.Point, "")
	if err != nil {
		return nil, err
	}
	for _, t := range touched {
		if e := t.Intersect(replication.Extent{Length: size}); e.Length > 0 {
			extents = append(extents, e)
		}
	}
	return image.Delta(r.source, replication.Union(extents)), nil
}

// stored is what a point takes in the vault, bytes.
func (r *replicator) stored(id replication.PointID) (int64, error) {
	points, err := r.vault.Points(r.disk)
	if err != nil {
		return 0, err
	}
	for _, p := range points {
		if p.ID == id {
			return p.StoredBytes, nil
		}
	}
	return 0, fmt.Errorf("disk %s: recovery point %s is missing after its mark was durable", r.disk, id)
}
