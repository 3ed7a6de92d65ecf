package appliance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"riparo/appliance/backup"
	"riparo/replication"
	"riparo/replication/keyring"
	"riparo/replication/vault"
	"riparo/replication/vfs"
	"riparo/store"
	"riparo/web/api"
)

// Until an appliance has an administrator, whoever holds the setup token can make it
// the one that a backup was made of. All is looked at before anything is replaced: an
// appliance that would not start with what the backup says is not restored.

// unclaimed sees that nobody has claimed the appliance, and that no other restore is
// under way; done ends it.
func (a *Appliance) unclaimed() (done func(), err error) {
	if !a.restoring.TryLock() {
		return nil, &replication.Problem{Code: "restore.busy", Cause: "a backup is being taken in or opened already", Effect: "nothing was restored",
			Action: "wait until that has ended, and try again", Remedy: replication.Retry}
	}
	claimed, err := a.identity.Claimed()
	if err == nil && claimed {
		err = &replication.Problem{Code: "setup.claimed", Cause: "the appliance has an administrator already", Effect: "nothing was restored",
			Action: "restore into a fresh data folder, or stop the daemon and use riparo restore --replace", Remedy: replication.Stop}
	}
	if err != nil {
		a.restoring.Unlock()
		return nil, err
	}
	return a.restoring.Unlock, nil
}

func (a *Appliance) inbox() backup.Inbox { return backup.Inbox{Data: a.config.Data} }

// TakeBackup keeps a backup that somebody sends.
func (a *Appliance) TakeBackup(ctx context.Context, r io.Reader, size int64) (api.Backup, error) {
	done, err := a.unclaimed()
	if err != nil {
		return api.Backup{}, err
	}
	defer done()
	k, err := a.inbox().Take(ctx, r, size)
	if err != nil {
		return api.Backup{}, err
	}
	a.part("backup").Info("a backup was taken in", "created", k.Created, "bytes", k.Bytes)
	return shown(k), nil
}

// TakenBackup tells of the one that is kept.
func (a *Appliance) TakenBackup() (api.Backup, bool, error) {
	k, there, err := a.inbox().Arrived()
	return shown(k), there, err
}

func shown(k backup.Kept) api.Backup {
	return api.Backup{Name: k.Name, Appliance: k.Appliance, Version: k.Version, Created: k.Created, Bytes: k.Bytes, Problem: api.ProblemOf(k.Problem)}
}

// Restore brings a backup back into an appliance that nobody has claimed.
func (a *Appliance) Restore(ctx context.Context, r api.RestoreRequest) (api.Restored, error) {
	done, err := a.unclaimed()
	if err != nil {
		return api.Restored{}, err
	}
	defer done()
	address, err := PlainAddress(r.Address)
	if err != nil {
		return api.Restored{}, err
	}
	if r.Vault != "" && !filepath.IsAbs(r.Vault) {
		return api.Restored{}, notRestored("restore.vault", fmt.Sprintf("the folder %q is no full path", r.Vault), "give it from the root")
	}
	if r.Backup == nil {
		f, err := a.inbox().Open()
		if err != nil {
			return api.Restored{}, err
		}
		defer f.Close()
		r.Backup = f
	}
	restored, err := backup.Stage(ctx, a.config.Data, r.Backup, r.Passphrase, backup.Options{Vault: r.Vault, Replace: true, Actor: r.Actor, Address: address, Judge: a.willStart})
	if err != nil {
		return api.Restored{}, err
	}
	a.part("backup").Info("a backup was restored; the appliance begins again with it", "created", restored.Created, "machines", restored.Machines)
	a.restartLater()
	return api.Restored{Appliance: restored.Appliance, Created: restored.Created, Machines: restored.Machines, Jobs: restored.Jobs, Interrupted: restored.Interrupted, Tokens: restored.Tokens}, nil
}

func notRestored(code, cause, action string) error {
	return &replication.Problem{Code: code, Cause: cause, Effect: "nothing was restored", Action: action, Remedy: replication.Stop}
}

// willStart sees that nobody has claimed the appliance meanwhile, and that the restored
// one would start: otherwise this console would be gone.
func (a *Appliance) willStart(keys string, place store.VaultPlace) error {
	if claimed, err := a.identity.Claimed(); err != nil || claimed {
		return cmp.Or(err, notRestored("setup.claimed", "the appliance has an administrator already", "restore into a fresh data folder, or stop the daemon and use riparo restore --replace"))
	}
	fsys := a.config.FS
	if fsys == nil {
		fsys = vfs.OS()
	}
	return WillStart(fsys, cmp.Or(a.config.Vault, place.Path, filepath.Join(a.config.Data, "vault")), keys, place)
}

// WillStart sees that a restored appliance finds its vault in a folder, and has the key to
// it among the restored keys; without either it does not start.
//
// Problems: restore.no-vault, restore.other-vault.
func WillStart(fsys vfs.FS, folder, keys string, place store.VaultPlace) error {
	seen, err := vault.Look(fsys, folder)
	switch {
	case err != nil:
		return fmt.Errorf("look at the vault in %s: %w", folder, err)
	case !seen.There && place.Used:
		return notRestored("restore.no-vault", fmt.Sprintf("there is no vault in %s", folder), "attach the disk that the vault is on, or say in which folder it is now")
	case !seen.Encrypted:
		return nil
	}
	ring, err := keyring.Load(filepath.Join(keys, filepath.Base(MasterKey)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if ring == nil || seen.Master != "" && !ring.Holds(seen.Master) {
		return notRestored("restore.other-vault", fmt.Sprintf("the vault in %s is another one: the backup has no key to it", folder),
			"say in which folder the vault of that appliance is now; this computer's own, still empty one is not it")
	}
	return nil
}

// hostName is what a certificate can name.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// PlainAddress is a name or an IP address of the console as a certificate has it; none
// is an empty one.
//
// Problems: restore.address.
func PlainAddress(text string) (string, error) {
	name := strings.ToLower(strings.Trim(strings.TrimSpace(text), "[]"))
	if ip := net.ParseIP(name); ip != nil {
		return ip.String(), nil
	}
	if name != "" && (len(name) > 253 || !hostName.MatchString(name)) { // RFC 1035 2.3.4
		return "", notRestored("restore.address", fmt.Sprintf("%q is not a name or an IP address", text), "give it as it stands in the browser, without https:// and without a port")
	}
	return name, nil
}
