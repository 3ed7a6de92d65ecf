package web_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

func (a *appliance) BackUp(_ context.Context, actor string) (string, error) {
	j := store.Job{ID: store.NewID(a.now()), Kind: "back-up-appliance", Actor: actor, State: store.InProgress, Created: a.now(), Steps: []store.Step{{Name: "write the backup", State: store.InProgress}}}
	return j.ID, a.store.Update(func(tx *store.Tx) error { return tx.Jobs().Put(j) })
}

func (a *appliance) Backups(context.Context) (api.Backups, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := api.Backups{Plan: a.plan, Sealed: a.plan.Keep > 0, Kept: []api.Backup{}}
	b.Plan.Passphrase = ""
	if b.Sealed {
		b.Saved = a.now().Add(-9 * time.Hour)
		for i := range 3 {
			at := b.Saved.AddDate(0, 0, -i)
			b.Kept = append(b.Kept, api.Backup{Name: "milano-1-" + at.UTC().Format("20060102T150405Z") + ".riparo-backup", Appliance: "Milano 1", Version: "0.9", Created: at, Bytes: 412 << 10})
		}
		b.Kept[2].Problem = api.ProblemOf(&replication.Problem{Code: "backup.damaged", Cause: "the backup is damaged: its header cannot be read", Action: "take another copy of it, or an older backup"})
	}
	return b, nil
}

func (a *appliance) OpenBackup(name string) (*os.File, error) {
	return nil, fmt.Errorf("backup %s: %w", name, store.ErrNotFound)
}

func (a *appliance) SaveBackupPlan(_ context.Context, _ string, p api.BackupPlan) error {
	if p.Folder == "nowhere" {
		return &replication.Problem{Code: "backup.folder", Cause: "nothing can be written to the folder nowhere", Effect: "nothing was changed", Action: "choose another", Remedy: replication.Stop}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.plan = p
	return nil
}

// TakeBackup keeps what is sent, as long as it looks like a backup of the tests.
func (a *appliance) TakeBackup(_ context.Context, r io.Reader, _ int64) (api.Backup, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return api.Backup{}, &replication.Problem{Code: "backup.cut", Cause: "the backup did not come as a whole", Effect: "nothing was restored", Action: "send it again", Err: err}
	}
	if string(text) != "a backup" {
		return api.Backup{}, &replication.Problem{Code: "backup.foreign", Cause: "the file is not a backup of Riparo", Effect: "nothing was restored", Action: "choose another", Remedy: replication.Stop}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken = text
	return api.Backup{Name: "arrived", Appliance: "Milano 1", Version: "0.9", Created: a.now().Add(-9 * time.Hour), Bytes: 412 << 10}, nil
}

func (a *appliance) TakenBackup() (api.Backup, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return api.Backup{Name: "arrived", Appliance: "Milano 1", Version: "0.9", Created: a.now().Add(-9 * time.Hour), Bytes: 412 << 10}, a.taken != nil, nil
}

func (a *appliance) Restore(_ context.Context, r api.RestoreRequest) (api.Restored, error) {
	a.mu.Lock()
	a.restored = append(a.restored, r)
	if r.Backup == nil {
		r.Backup = bytes.NewReader(a.taken)
	}
	a.mu.Unlock()
	text, err := io.ReadAll(r.Backup)
	if err != nil {
		return api.Restored{}, err
	}
	if r.Passphrase != password || string(text) != "a backup" {
		return api.Restored{}, &replication.Problem{Code: "backup.passphrase", Cause: "the passphrase does not open this backup", Effect: "nothing was restored", Action: "try another", Remedy: replication.Stop}
	}
	return api.Restored{Appliance: "Milano 1", Created: a.now(), Machines: 6, Jobs: 9, Interrupted: 2, Tokens: 3}, nil
}
