package appliance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"riparo/appliance/backup"
	"riparo/replication"
	"riparo/replication/keyring"
	"riparo/replication/vault"
	"riparo/replication/vfs"
	"riparo/store"
	"riparo/web/api"
)

// ErrRestart is what Run returns when the appliance is to be closed and opened again:
// after a restore, or when the vault moves.
var ErrRestart = errors.New("the appliance begins again")

// restartDelay lets the answer to whoever asked for the restart reach them.
const restartDelay = time.Second

// restartLater makes Run return ErrRestart soon.
func (a *Appliance) restartLater() {
	a.restarting.Do(func() { time.AfterFunc(restartDelay, func() { close(a.restart) }) })
}

// awaitRestart ends Run when somebody asked for that.
func (a *Appliance) awaitRestart(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-a.restart:
		return ErrRestart
	}
}

// BackUp starts a job that saves the state of the appliance.
func (a *Appliance) BackUp(ctx context.Context, actor string) (string, error) {
	return a.keeper.Begin(ctx, actor)
}

// Backups lists those that are kept and how they are made.
func (a *Appliance) Backups(context.Context) (api.Backups, error) {
	plan, state, err := a.keeper.Plan()
	if err != nil {
		return api.Backups{}, err
	}
	b := api.Backups{Plan: api.BackupPlan{Folder: plan.Folder, EverySeconds: int64(plan.Every.Seconds()), Keep: plan.Keep},
		Sealed: plan.Recipient != "", Saved: state.Time, Problem: state.Problem, Kept: []api.Backup{}}
	kept, err := backup.List(plan.Folder)
	for _, k := range kept {
		b.Kept = append(b.Kept, api.Backup{Name: k.Name, Appliance: k.Appliance, Version: k.Version, Created: k.Created, Bytes: k.Bytes, Problem: api.ProblemOf(k.Problem)})
	}
	return b, err
}

// OpenBackup gives a kept backup to read.
func (a *Appliance) OpenBackup(name string) (*os.File, error) {
	plan, _, err := a.keeper.Plan()
	if err != nil {
		return nil, err
	}
	if filepath.Base(name) != name || !strings.HasSuffix(name, backup.Suffix) {
		return nil, fmt.Errorf("backup %q: %w", name, store.ErrNotFound)
	}
	f, err := os.Open(filepath.Join(plan.Folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("backup %q: %w", name, store.ErrNotFound)
	}
	return f, err
}

// SaveBackupPlan keeps how backups are made.
func (a *Appliance) SaveBackupPlan(_ context.Context, actor string, p api.BackupPlan) error {
	return a.keeper.SavePlan(actor, store.BackupPlan{Folder: strings.TrimSpace(p.Folder), Every: time.Duration(p.EverySeconds) * time.Second, Keep: p.Keep}, p.Passphrase)
}

// vaultFolder is where the vault is: what the command line says, or the settings, or
// the folder vault beside the state file.
func (a *Appliance) vaultFolder() (folder string, place store.VaultPlace, err error) {
	err = a.store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingVault, &place)
		return err
	})
	if a.config.Vault != "" {
		return a.config.Vault, place, err
	}
	if place.Path == "" {
		return filepath.Join(a.config.Data, "vault"), place, err
	}
	return place.Path, place, err
}

// openVault opens the vault, or makes it the first time. A vault that was there and is
// not any more is not made again: its disk is not attached, and an empty one in its
// place would let every recovery point look lost.
func (a *Appliance) openVault(ctx context.Context) error {
	folder, place, err := a.vaultFolder()
	if err != nil {
		return err
	}
	if err := a.startVault(ctx, folder, !place.Used); err != nil {
		p := replication.AsProblem(err)
		if p.Code == "vault.missing" {
			p = &replication.Problem{Code: p.Code, Cause: p.Cause + ", and this appliance has recovery points in it", Effect: "the appliance does not start; nothing was changed",
				Action: "attach the disk that the vault is on, or say where it is now: riparo restore with --vault, or riparo serve with --vault", Remedy: replication.Stop, Err: err}
		}
		return p
	}
	if place.Used && a.config.Vault == "" {
		return nil
	}
	place.Used = true
	if a.config.Vault != "" {
		place.Path = folder
	}
	return a.store.Update(func(tx *store.Tx) error { return tx.SetSetting(store.SettingVault, place) })
}

// startVault opens the vault with the master key of this appliance. A new vault is
// encrypted; one that was made without encryption stays so.
func (a *Appliance) startVault(ctx context.Context, folder string, create bool) error {
	fsys := a.config.FS
	if fsys == nil {
		fsys = vfs.OS()
	}
	o := vault.Options{Create: create, Compression: a.config.Compression, Clock: a.config.Clock}
	glance, err := vault.Look(fsys, folder)
	path := filepath.Join(a.config.Data, MasterKey)
	switch {
	case err != nil || glance.There && !glance.Encrypted || !glance.There && !create:
		// Opening it needs no key, or tells why it cannot be done.
	case glance.There:
		ring, err := keyring.Load(path)
		if err != nil {
			return err
		}
		o.Keys = ring
	default:
		ring, made, err := keyring.LoadOrMake(path, time.Now())
		if err != nil {
			return err
		}
		if made {
			a.log.Warn("a new master key encrypts the vault; export it and keep the copy elsewhere", "file", path, "key", ring.Master())
		}
		o.Keys = ring
	}
	a.vault, err = vault.Open(ctx, fsys, folder, o)
	return err
}

// MasterKey is the file with the key that encrypts the vault, in the data folder.
var MasterKey = filepath.Join("pki", "master.key")

// limitVault lets the limits hold. Room that is short is answered by applying the
// retention early.
func (a *Appliance) limitVault() error {
	limits := a.config.Limits
	if limits.Warn == (vault.Watermark{}) && limits.Slow == limits.Warn && limits.Stop == limits.Warn && limits.DiskBytes == 0 {
		return nil
	}
	limits.Thin = a.protect.Thin
	return a.vault.SetLimits(limits)
}
