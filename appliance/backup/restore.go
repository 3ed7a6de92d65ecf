package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"riparo/replication"
	"riparo/store"
)

// Names in the data folder while a restore is under way.
const (
	stageName = "restore"
	readyName = "ready"
)

// Options say how a backup is brought back.
type Options struct {
	// Vault is where the vault is now; empty: where the backup says.
	Vault string
	// Replace allows to put aside a state file that is there.
	Replace bool
	Actor   string
	// Address is the name or IP address that the console is reached under from now on,
	// in addition to those before; empty: no other.
	Address string
	// Judge, if set, is asked before anything is to be replaced: keys is the folder of
	// what came back of pki, and vault where the restored state says that the vault is.
	Judge func(keys string, vault store.VaultPlace) error
}

// Restored is what came back.
type Restored struct {
	Header
	Machines    int    `json:"machines"`
	Jobs        int    `json:"jobs"`
	Interrupted int    `json:"interrupted"` // jobs that were under way
	Tokens      int    `json:"tokens"`      // API tokens that are good, as they were then
	Vault       string `json:"vault"`       // folder; empty is the one beside the state file
}

// Stage opens a backup beside what is in use, in the data folder, and reads it as a
// whole. When it returns nil the next start of the daemon brings it into place (see
// [Apply]); until then nothing has changed.
//
// Problems: backup.foreign, backup.newer, backup.passphrase, backup.damaged,
// backup.occupied, backup.unwritable, backup.no-room, and those of Judge.
func Stage(ctx context.Context, data string, r io.Reader, passphrase string, o Options) (_ Restored, err error) {
	if _, err := os.Stat(filepath.Join(data, stateName)); err == nil && !o.Replace {
		return Restored{}, &replication.Problem{Code: "backup.occupied", Cause: fmt.Sprintf("the folder %s holds the state of an appliance already", data),
			Effect: "nothing was restored", Action: "choose an empty folder, or say that it is to be replaced (--replace): what is there is put aside", Remedy: replication.Stop}
	}
	stage := filepath.Join(data, stageName)
	if err := errors.Join(os.RemoveAll(stage), os.MkdirAll(stage, 0o700)); err != nil {
		return Restored{}, unwritable(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(stage))
		}
	}()
	h, err := extract(ctx, r, passphrase, stage)
	if err != nil {
		return Restored{}, err
	}
	result, place, err := prepare(filepath.Join(stage, stateName), h, o)
	if err == nil && o.Judge != nil {
		err = o.Judge(filepath.Join(stage, pkiName), place)
	}
	if err != nil {
		return Restored{}, err
	}
	// The name of where the old state goes is chosen once, so that Apply finds it
	// again after a crash.
	aside := "replaced-" + time.Now().UTC().Format("20060102T150405")
	return result, errors.Join(writeDurably(filepath.Join(stage, readyName), []byte(aside)), syncDir(stage), syncDir(data))
}

// prepare opens the state file, which reads all of it, and makes it one of this
// appliance: browsers sign in again, no job goes on by itself,
// and the vault is where it was said to be.
func prepare(path string, h Header, o Options) (result Restored, place store.VaultPlace, err error) {
	st, err := store.Open(path, store.Options{})
	if err != nil {
		return result, place, damaged(err)
	}
	result.Header = h
	err = st.Update(func(tx *store.Tx) error {
		if _, err := tx.Setting(store.SettingVault, &place); err != nil {
			return err
		}
		if o.Vault != "" {
			place.Path = o.Vault
		}
		result.Vault = place.Path
		var ids []string
		for s, err := range tx.Sessions().All() {
			if err != nil {
				return err
			}
			ids = append(ids, s.ID)
		}
		for _, id := range ids {
			if err := tx.Sessions().Delete(id); err != nil {
				return err
			}
		}
		if err := reachedUnder(tx, o.Address); err != nil {
			return err
		}
		now := time.Now().UTC()
		var errs [4]error
		result.Machines, errs[0] = tx.Machines().Count()
		result.Jobs, errs[1] = tx.Jobs().Count()
		result.Interrupted, errs[2] = interrupt(tx, now)
		result.Tokens, errs[3] = goodTokens(tx, now)
		return errors.Join(errors.Join(errs[:]...), tx.SetSetting(store.SettingVault, place), tx.AddEvent(store.Event{Severity: store.SeverityWarning, Code: "appliance.restored",
			Text:   fmt.Sprintf("the appliance was restored from the backup of %s (%s); interrupted jobs: %d, API tokens that are good as they were then: %d", h.Created.Format(time.RFC3339), h.Appliance, result.Interrupted, result.Tokens),
			Args:   map[string]string{"created": h.Created.Format(time.RFC3339), "actor": o.Actor, "jobs": strconv.Itoa(result.Interrupted), "tokens": strconv.Itoa(result.Tokens)},
			Action: "restart or cancel the jobs that were interrupted, and look through accounts and API tokens: they are as they were then, revoke again what was revoked since"}))
	})
	return result, place, errors.Join(err, st.Close())
}

// reachedUnder keeps a name that the console is reached under from now on.
func reachedUnder(tx *store.Tx, name string) error {
	var names []string
	if _, err := tx.Setting(store.SettingNames, &names); err != nil || name == "" || slices.Contains(names, name) {
		return err
	}
	return tx.SetSetting(store.SettingNames, append(names, name))
}

// Apply brings a staged backup into place, before the state file is opened. Without
// one it removes what a cut-off [Stage] or an [Inbox] left and does nothing else. It reports
// whether it changed something.
func Apply(data string) (bool, error) {
	if err := (Inbox{Data: data}).Discard(); err != nil {
		return false, fmt.Errorf("remove what was sent: %w", err)
	}
	stage := filepath.Join(data, stageName)
	aside, err := os.ReadFile(filepath.Join(stage, readyName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, os.RemoveAll(stage)
	}
	if err != nil {
		return false, fmt.Errorf("take up the restore: %w", err)
	}
	old := filepath.Join(data, filepath.Base(string(aside)))
	for _, name := range []string{pkiName, stateName} {
		if err := exchange(filepath.Join(stage, name), filepath.Join(data, name), filepath.Join(old, name)); err != nil {
			return false, fmt.Errorf("bring the restored %s into place: %w", name, err)
		}
	}
	// Whoever restored it has claimed it.
	if err := os.Remove(filepath.Join(data, "setup-token")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, errors.Join(syncDir(data), os.Remove(filepath.Join(stage, readyName)), os.RemoveAll(stage))
}

// exchange moves what is in use to old, and fresh into its place. It can be called
// again at any point.
func exchange(fresh, used, old string) error {
	if _, err := os.Lstat(fresh); errors.Is(err, fs.ErrNotExist) {
		return nil // is in place already, or was not part of it
	}
	if _, err := os.Lstat(old); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(used); err == nil {
			if err := os.MkdirAll(filepath.Dir(old), 0o700); err != nil {
				return err
			}
			if err := os.Rename(used, old); err != nil {
				return err
			}
		}
	}
	return os.Rename(fresh, used)
}

func unwritable(err error) error {
	return &replication.Problem{Code: "backup.unwritable", Cause: fmt.Sprintf("the data folder cannot be written: %v", err), Effect: "nothing was restored",
		Action: "see that the folder exists, that this user may write there and that there is room", Remedy: replication.Stop, Err: err}
}

func writeDurably(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}
