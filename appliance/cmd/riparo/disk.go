package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/vault"
	"riparo/replication/vfs"
)

func newDisk(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use:     "disk",
		Short:   "Replicate, look at, export, serve and verify single disks",
		GroupID: groupDisk,
	}
	c.AddCommand(
		newDiskReplicate(t),
		newDiskPoints(t),
		newDiskExport(t),
		newDiskServe(t),
		newDiskPrune(t),
		newDiskVerify(t),
	)
	return c
}

// vaultFlags are what all verbs of disks share.
type vaultFlags struct {
	keyFlags
	dir  string
	disk string
}

func (f *vaultFlags) add(c *cobra.Command) {
	f.keyFlags.add(c)
	c.Flags().StringVar(&f.dir, "vault", "", "folder of the vault")
	c.Flags().StringVar(&f.disk, "disk", "", "name of the disk in the vault")
}

// compression is the flag that says how new data is compressed.
type compression vault.Compression

func (f *compression) String() string { return string(*f) }
func (f *compression) Type() string   { return "KIND" }

func (f *compression) Set(name string) error {
	c, err := vault.ParseCompression(name)
	if err == nil {
		*f = compression(c)
	}
	return err
}

func (f *compression) add(c *cobra.Command) {
	*f = compression(vault.LZ4)
	c.Flags().Var(f, "compression", "how new data is compressed: lz4, minlz or s2 (faster), or zstd (smaller)")
}

// check judges what can be judged before anything is opened.
func (f *vaultFlags) check(c *cobra.Command, needsDisk bool) error {
	switch {
	case f.dir == "":
		return usagef(c, "--vault DIR is missing")
	case f.disk == "" && needsDisk:
		return usagef(c, "--disk NAME is missing")
	case f.disk == "" && !c.Flags().Changed("disk"):
		return nil
	}
	if err := replication.DiskID(f.disk).Check(); err != nil {
		return usagef(c, "--disk: %w", err)
	}
	return nil
}

func (f *vaultFlags) id() replication.DiskID { return replication.DiskID(f.disk) }

// open opens the vault with its master key, hands it to work and closes it.
func (f *vaultFlags) open(ctx context.Context, t *terminal, o vault.Options, work func(*vault.Vault) error) error {
	if err := f.unlock(t, f.dir, &o, false); err != nil {
		return err
	}
	return f.opened(ctx, o, work)
}

// openForList opens the vault for reading what needs no key: if there is none, it does
// without.
func (f *vaultFlags) openForList(ctx context.Context, t *terminal, work func(*vault.Vault) error) error {
	o := vault.Options{ReadOnly: true}
	if err := f.unlock(t, f.dir, &o, true); err != nil {
		return err
	}
	return f.opened(ctx, o, work)
}

func (f *vaultFlags) opened(ctx context.Context, o vault.Options, work func(*vault.Vault) error) (err error) {
	v, err := vault.Open(ctx, vfs.OS(), f.dir, o)
	if err != nil {
		return f.openProblem(err)
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return work(v)
}

// openProblem says what a vault that cannot be opened means for a person.
func (f *vaultFlags) openProblem(err error) error {
	p := *replication.AsProblem(err)
	p.Effect = cmp.Or(p.Effect, "nothing was done")
	if p.Code == "internal" && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		p.Code, p.Remedy = vault.CodeReadOnly, replication.Stop
		p.Action = "run as a user who may write to the folder, or mount its file system for writing"
	}
	p.Action = cmp.Or(p.Action, "check the folder "+f.dir+" and the disk it is on")
	return &p
}

// disks are those that the flags mean: the one named, or all.
func (f *vaultFlags) disks(v *vault.Vault) ([]vault.DiskInfo, error) {
	all := v.Disks()
	if f.disk == "" {
		return all, nil
	}
	i := slices.IndexFunc(all, func(d vault.DiskInfo) bool { return d.Disk.ID == f.id() })
	if i < 0 {
		return nil, f.unknownDisk(v)
	}
	return all[i : i+1], nil
}

func (f *vaultFlags) unknownDisk(v *vault.Vault) error {
	names := "it holds no disk"
	for i, d := range v.Disks() {
		if i == 0 {
			names = "it holds"
		}
		if i == 20 { // enough to see what the names are like
			names += " …"
			break
		}
		names += " " + string(d.Disk.ID)
	}
	return &replication.Problem{
		Code: "disk.unknown", Cause: fmt.Sprintf("the vault %s has no disk %s", f.dir, f.disk), Effect: "nothing was done",
		Action: "check the name; " + names, Remedy: replication.Stop, Err: replication.ErrUnknownDisk,
	}
}

// point finds a complete recovery point of the disk; an empty name is the newest.
func (f *vaultFlags) point(v *vault.Vault, name string) (replication.RecoveryPoint, error) {
	points, err := v.Points(f.id())
	if errors.Is(err, replication.ErrUnknownDisk) {
		err = f.unknownDisk(v)
	}
	if err != nil {
		return replication.RecoveryPoint{}, err
	}
	if len(points) == 0 {
		return replication.RecoveryPoint{}, &replication.Problem{
			Code: "point.none", Cause: fmt.Sprintf("disk %s has no recovery point yet", f.disk), Effect: "nothing was done",
			Action: "let its replication finish: run it again, it goes on", Remedy: replication.Stop, Err: replication.ErrUnknownPoint,
		}
	}
	if name == "" {
		return points[len(points)-1], nil
	}
	i := slices.IndexFunc(points, func(p replication.RecoveryPoint) bool { return p.ID == replication.PointID(name) })
	if i < 0 {
		return replication.RecoveryPoint{}, &replication.Problem{
			Code: "point.unknown", Cause: fmt.Sprintf("disk %s has no recovery point %s", f.disk, name), Effect: "nothing was done",
			Action: fmt.Sprintf("choose one of `riparo disk points --vault %s --disk %s`; the newest is %s", f.dir, f.disk, points[len(points)-1].ID),
			Remedy: replication.Stop, Err: replication.ErrUnknownPoint,
		}
	}
	return points[i], nil
}
