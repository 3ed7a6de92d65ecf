package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/store"
)

// JobKind is the kind of jobs that write a backup.
const JobKind = "back-up-appliance"

// maxFormer is how many keys of then are remembered; backups that an older one seals are
// not removed any more.
const maxFormer = 100

// DefaultKeep is how many backups stay when nobody says otherwise: a month of nights.
const DefaultKeep = 30

// Keeper writes backups when they are due or asked for.
type Keeper struct {
	Store   *store.Store
	Data    string
	Version string
	Log     *slog.Logger
	Now     func() time.Time
	// Start starts a job.
	Start func(ctx context.Context, s jobs.Spec) (string, error)
}

// Plan gives the plan, with what is chosen for what nobody chose.
func (k *Keeper) Plan() (plan store.BackupPlan, state store.Saved, err error) {
	err = k.Store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingBackup, &plan)
		_, err2 := tx.Setting(store.SettingSaved, &state)
		return errors.Join(err, err2)
	})
	plan.Folder = cmp.Or(plan.Folder, filepath.Join(k.Data, "backup"))
	plan.Keep = cmp.Or(plan.Keep, DefaultKeep)
	return plan, state, err
}

// SavePlan keeps a plan. An empty passphrase leaves the one there is; older backups
// keep the passphrase that they were made with.
func (k *Keeper) SavePlan(actor string, plan store.BackupPlan, passphrase string) error {
	old, _, err := k.Plan()
	if err != nil {
		return err
	}
	plan.Recipient, plan.Identity, plan.Former = old.Recipient, old.Identity, old.Former
	switch {
	case passphrase != "":
		key, err := NewKey(passphrase)
		if err != nil {
			return err
		}
		if len(old.Identity) > 0 {
			plan.Former = append(slices.Clone(old.Former), keyMark(old.Identity))
			plan.Former = plan.Former[max(0, len(plan.Former)-maxFormer):]
		}
		plan.Recipient, plan.Identity = key.Recipient, key.Identity
	case plan.Recipient == "":
		return &replication.Problem{Code: "backup.no-passphrase", Cause: "backups have no passphrase yet", Effect: "nothing was changed",
			Action: "choose one; without it nobody opens a backup", Remedy: replication.Stop}
	}
	if err := checkPlan(plan); err != nil {
		return err
	}
	return k.Store.Update(func(tx *store.Tx) error {
		return errors.Join(tx.SetSetting(store.SettingBackup, plan), tx.AddEvent(store.Event{Severity: store.SeverityInfo, Code: "backup.plan",
			Text: fmt.Sprintf("the plan of the appliance's backups was saved by %s", actor), Args: map[string]string{"actor": actor}}))
	})
}

// shortestEvery: more often, backups would be most of what the appliance does.
const shortestEvery = 10 * time.Minute

func checkPlan(p store.BackupPlan) error {
	refused := &replication.Problem{Code: "backup.plan", Effect: "nothing was changed", Remedy: replication.Stop}
	switch {
	case !filepath.IsAbs(p.Folder):
		refused.Cause, refused.Action = fmt.Sprintf("the folder %q is no full path", p.Folder), "give it from the root, best on another disk or a share"
	case p.Every != 0 && p.Every < shortestEvery:
		refused.Cause, refused.Action = fmt.Sprintf("a backup every %s is too often", p.Every), fmt.Sprintf("choose %s or more", shortestEvery)
	case p.Keep < 1 || p.Keep > 10_000:
		refused.Cause, refused.Action = fmt.Sprintf("%d backups cannot be kept", p.Keep), "choose 1 to 10000"
	default:
		return tryFolder(p.Folder)
	}
	return refused
}

// tryFolder sees that a file can be made in the folder, and removes it again.
func tryFolder(folder string) error {
	err := os.MkdirAll(folder, 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(folder, ".unfinished-*"); err == nil {
			_, err = f.WriteString("riparo")
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}
	if err == nil {
		return nil
	}
	return &replication.Problem{Code: "backup.folder", Cause: fmt.Sprintf("nothing can be written to the folder %s: %v", folder, err), Effect: "nothing was changed",
		Action: "see that the folder exists, is not full, and that the user of the daemon may write there", Remedy: replication.Stop, Err: err}
}

// Begin starts a job that writes a backup now.
func (k *Keeper) Begin(ctx context.Context, actor string) (string, error) {
	plan, _, err := k.Plan()
	if err != nil {
		return "", err
	}
	if plan.Recipient == "" {
		return "", &replication.Problem{Code: "backup.no-passphrase", Cause: "backups have no passphrase yet", Effect: "nothing was saved",
			Action: "choose one under Settings, Backup", Remedy: replication.Stop}
	}
	return k.Start(ctx, jobs.Spec{Kind: JobKind, Actor: actor})
}

// Job is how a backup is written.
func (k *Keeper) Job() jobs.Definition {
	return jobs.Definition{Kind: JobKind, Title: "Back up the appliance", Attempts: 4,
		Steps: []jobs.StepDef{{Name: "write the backup", Run: k.write}, {Name: "remove old backups", Run: k.prune}},
		OnFail: func(_ context.Context, _ *jobs.Work, cause error) error {
			return k.note(func(s *store.Saved) {
				p := replication.AsProblem(cause)
				s.Tried = k.Now()
				s.Problem = &store.Finding{Code: "backup.failed", Level: string(store.Warning), Cause: p.Cause, Effect: p.Effect, Action: p.Action, Since: s.Tried}
			})
		}}
}

func (k *Keeper) write(ctx context.Context, w *jobs.Work) error {
	plan, _, err := k.Plan()
	if err != nil {
		return err
	}
	name, err := k.name()
	if err != nil {
		return err
	}
	now := k.Now()
	file, bytes, sum, err := Save(ctx, plan.Folder, Source{Store: k.Store, Data: k.Data, Appliance: name, Version: k.Version,
		Key: Key{Recipient: plan.Recipient, Identity: plan.Identity}, Now: now})
	if err != nil {
		return err
	}
	w.Evidence("file", filepath.Join(plan.Folder, file))
	w.Evidence("bytes", strconv.FormatInt(bytes, 10))
	w.Evidence("SHA-256", sum)
	w.OnDone(func(tx *store.Tx) error {
		return tx.SetSetting(store.SettingSaved, store.Saved{Time: now, Tried: now, File: file, Bytes: bytes})
	})
	return nil
}

func (k *Keeper) prune(_ context.Context, w *jobs.Work) error {
	plan, state, err := k.Plan()
	if err != nil {
		return err
	}
	name, err := k.name()
	if err != nil {
		return err
	}
	removed, left, err := Prune(plan.Folder, Own{Appliance: name, Keys: append(slices.Clone(plan.Former), keyMark(plan.Identity)), Newest: state.File, Keep: plan.Keep, Now: k.Now()})
	w.Evidence("removed", strconv.Itoa(removed))
	if left > 0 {
		w.Evidence("left with another key", strconv.Itoa(left))
	}
	return err
}

func (k *Keeper) name() (string, error) {
	var general store.General
	err := k.Store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingGeneral, &general)
		return err
	})
	return general.Name, err
}

func (k *Keeper) note(change func(*store.Saved)) error {
	return k.Store.Update(func(tx *store.Tx) error {
		var s store.Saved
		if _, err := tx.Setting(store.SettingSaved, &s); err != nil {
			return err
		}
		change(&s)
		return tx.SetSetting(store.SettingSaved, s)
	})
}

// lookEvery is how often Run looks whether a backup is due.
const lookEvery = time.Minute

// Run writes backups by the plan until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	if plan, _, err := k.Plan(); err == nil {
		Sweep(plan.Folder)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := k.due(ctx); err != nil && ctx.Err() == nil {
			k.Log.Error("a backup of the appliance did not begin", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// due begins a backup when the plan says so and none is under way.
func (k *Keeper) due(ctx context.Context) error {
	plan, state, err := k.Plan()
	if err != nil || plan.Every == 0 || plan.Recipient == "" {
		return err
	}
	last := state.Time
	if state.Tried.After(last) {
		last = state.Tried
	}
	if now := k.Now(); now.Sub(last) < plan.Every && !last.After(now) {
		return nil
	}
	under := false
	err = k.Store.View(func(tx *store.Tx) error {
		unfinished, err := tx.AllUnfinishedJobs()
		for _, j := range unfinished {
			under = under || j.Kind == JobKind
		}
		return err
	})
	if err != nil || under {
		return err
	}
	_, err = k.Begin(ctx, "schedule")
	return err
}
