package appliance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"riparo/appliance/jobs"
	"riparo/appliance/protection"
	"riparo/appliance/recovery"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// Protect takes a discovered machine under protection.
func (a *Appliance) Protect(ctx context.Context, r api.ProtectRequest) (replication.MachineID, string, error) {
	provider, err := a.sites.Provider(r.Site)
	if err != nil {
		return "", "", err
	}
	seen, err := provider.Machine(ctx, r.Ref)
	if errors.Is(err, hypervisor.ErrNoMachine) {
		return "", "", replication.Stopf("machine.unknown", "choose one of the machines that discovery lists", "site %s has no machine %q", r.Site, r.Ref)
	}
	if err != nil {
		return "", "", err
	}
	if r.Policy == "" {
		r.Policy = replication.DefaultPolicy().Name
	}
	if r.Target == r.Site {
		return "", "", replication.Stopf("target.same", "choose another site as the target", "site %s cannot be the source and the target of %s", r.Site, seen.Name)
	}
	var random [4]byte
	rand.Read(random[:])
	id := replication.MachineID("m-" + hex.EncodeToString(random[:]))
	now := time.Now()
	m := store.Machine{
		ID: id, Name: seen.Name, Shape: seen, Policy: r.Policy, Network: r.Network, BootSign: r.BootSign,
		Source: store.Place{Site: r.Site, Ref: string(r.Ref)}, Target: store.Place{Site: r.Target},
		Direction: lifecycle.Forward, State: lifecycle.Unprotected, Since: now, Epoch: 1, Created: now,
		Health: store.Health{Level: store.Healthy},
	}
	for _, d := range seen.Disks {
		m.Disks = append(m.Disks, store.Disk{Key: d.Key, ID: protection.DiskID(id, d.Key), Size: d.Size, Boot: d.Boot, Excluded: slices.Contains(r.Exclude, d.Key)})
	}
	for key, name := range r.Seeded {
		i := slices.IndexFunc(m.Disks, func(d store.Disk) bool { return d.Key == key && !d.Excluded })
		if i < 0 {
			return "", "", replication.Stopf("disk.unknown", "bring images only of disks that are replicated", "%s has no disk %q to be filled from an image", seen.Name, key)
		}
		if err := a.protect.CheckSeed(name, m.Disks[i].Size); err != nil {
			return "", "", err
		}
		m.Disks[i].Seed = name
	}
	for _, key := range r.Exclude {
		if !slices.ContainsFunc(seen.Disks, func(d hypervisor.Disk) bool { return d.Key == key }) {
			return "", "", replication.Stopf("disk.unknown", "exclude only disks that the machine has", "%s has no disk %q", seen.Name, key)
		}
	}
	job, err := a.jobs.Start(ctx, jobs.Spec{Kind: string(lifecycle.EnableProtection), Machine: id, Name: m.Name, Actor: r.Actor,
		With: func(tx *store.Tx, _ string) error { return a.register(tx, &m) }})
	return id, job, err
}

// Seeds lists the images that disks can be filled from, by name.
func (a *Appliance) Seeds(context.Context) (api.Seeds, error) {
	folder, sizes, err := a.protect.Seeds()
	s := api.Seeds{Folder: folder, Images: []api.Seed{}}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		s.Images = append(s.Images, api.Seed{Name: name, Bytes: sizes[name]})
	}
	return s, err
}

// register keeps a new machine, unless it is protected already or something it
// names is missing.
func (a *Appliance) register(tx *store.Tx, m *store.Machine) error {
	source, err := tx.Sites().Get(m.Source.Site)
	if err != nil {
		return fmt.Errorf("site %s: %w", m.Source.Site, err)
	}
	target, err := tx.Sites().Get(m.Target.Site)
	if errors.Is(err, store.ErrNotFound) {
		return replication.Stopf("site.unknown", "choose one of the sites under Infrastructure", "there is no site %q", m.Target.Site)
	}
	if err != nil {
		return err
	}
	if m.Scenario, err = scenarioOf(source, target); err != nil {
		return err
	}
	if _, err := tx.Policies().Get(m.Policy); errors.Is(err, store.ErrNotFound) {
		return replication.Stopf("policy.unknown", "choose one of the policies", "there is no policy %q", m.Policy)
	}
	for other, err := range tx.Machines().All() {
		if err != nil {
			return err
		}
		if other.Source == m.Source || other.Target.Ref != "" && other.Target == m.Source {
			return replication.Stopf("machine.protected", "look for it under Machines", "%s is protected already", m.Name)
		}
	}
	next, err := lifecycle.Next(m.State, lifecycle.EnableAsked)
	if err != nil {
		return err
	}
	m.State = next
	return tx.Machines().Put(*m)
}

// Ask starts a verb on a protected machine.
func (a *Appliance) Ask(ctx context.Context, r api.Request) (string, error) {
	var m store.Machine
	var busy bool
	err := a.store.View(func(tx *store.Tx) (err error) {
		if m, err = tx.Machines().Get(string(r.Machine)); err != nil {
			return err
		}
		for _, err := range tx.UnfinishedJobs(r.Machine).All() {
			busy = true
			return err
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return "", replication.Stopf("machine.unknown", "choose one of the protected machines", "there is no protected machine %q", r.Machine)
	}
	if err != nil {
		return "", err
	}
	why := lifecycle.Why(lifecycle.Situation{Scenario: m.Scenario, Direction: m.Direction, State: m.State, Drill: m.Drill,
		Paused: m.Paused, HasPoints: m.LastPoint != nil, Busy: busy}, r.Verb)
	if why != "" {
		return "", &replication.Problem{Code: "verb.refused", Cause: fmt.Sprintf("%s cannot be done on %s now", r.Verb, m.Name), Effect: "nothing was changed", Action: why, Remedy: replication.Stop}
	}
	if needsConfirmation(r.Verb) && r.Confirm != m.Name {
		return "", &replication.Problem{Code: "confirm.missing", Cause: fmt.Sprintf("%s of %s was not confirmed", r.Verb, m.Name), Effect: "nothing was changed",
			Action: fmt.Sprintf("repeat the machine's name, %q, as confirmation", m.Name), Remedy: replication.Stop}
	}
	switch r.Verb {
	case lifecycle.Pause, lifecycle.Resume:
		return "", a.pause(ctx, m.ID, r)
	}
	if r.Verb == lifecycle.PlannedFailover && r.Point != "" {
		return "", replication.Stopf("point.planned", "leave the recovery point out, or ask for an unplanned failover", "a planned failover of %s sends the last changes and starts from them: it takes no older recovery point", m.Name)
	}
	if r.Point != "" {
		// Looked up now: a wrong name is told to who typed it, not to a job.
		if _, err := a.protect.Choose(m, r.Point); err != nil {
			return "", err
		}
	}
	if err := a.mayDisable(m, r); err != nil {
		return "", err
	}
	return a.jobs.Start(ctx, jobs.Spec{Kind: string(r.Verb), Machine: m.ID, Name: m.Name, Actor: r.Actor, Params: paramsOf(r)})
}

func paramsOf(r api.Request) map[string]string {
	params := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			params[name] = value
		}
	}
	set(recovery.ParamPoint, string(r.Point))
	set(recovery.ParamNetwork, r.Network)
	set(recovery.ParamNotes, r.Notes)
	if r.SyncFirst {
		set(recovery.ParamSyncFirst, "true")
	}
	if r.KeepPoints {
		set(protection.ParamKeepPoints, "true")
	}
	return params
}

// needsConfirmation: what takes a machine's place or erases its points.
func needsConfirmation(v lifecycle.Verb) bool {
	switch v {
	case lifecycle.PlannedFailover, lifecycle.UnplannedFailover, lifecycle.Failback, lifecycle.DisableProtection:
		return true
	}
	return false
}

func (a *Appliance) pause(ctx context.Context, id replication.MachineID, r api.Request) error {
	paused := r.Verb == lifecycle.Pause
	code, text := "replication.resumed", "replication was resumed by "+r.Actor
	if paused {
		code, text = "replication.paused", "replication was paused by "+r.Actor
	}
	_, err := a.protect.Change(id, func(m *store.Machine) error {
		m.Paused, m.PauseReason = paused, strings.TrimSpace(r.Notes)
		if !paused {
			m.Failures, m.NextTry = 0, time.Time{} // who resumes wants to see it try
		}
		return nil
	}, store.Event{Severity: "info", Code: code, Text: text})
	if err != nil {
		return err
	}
	if paused { // what is under way ends now
		a.protect.Interrupt(ctx, id)
	} else {
		err = a.goOn(id)
	}
	a.protect.Nudge(id)
	return err
}

// goOn lets a job of a machine that waits try at once.
func (a *Appliance) goOn(id replication.MachineID) error {
	var waiting []string
	err := a.store.View(func(tx *store.Tx) error {
		for job, err := range tx.UnfinishedJobs(id).All() {
			if err != nil {
				return err
			}
			if job.State == store.WaitingToRetry {
				waiting = append(waiting, job.ID)
			}
		}
		return nil
	})
	for _, job := range waiting {
		if restartErr := a.jobs.Restart(job); !errors.Is(restartErr, jobs.ErrEnded) { // it goes on already
			err = errors.Join(err, restartErr)
		}
	}
	return err
}

// CancelJob stops a job and lets it undo what it began.
func (a *Appliance) CancelJob(_ context.Context, _, job string) error {
	if err := a.newestJob(job); err != nil {
		return err
	}
	return a.jobs.Cancel(job)
}

// RestartJob lets a failed job go on at the step that failed.
func (a *Appliance) RestartJob(_ context.Context, _, job string) error {
	if err := a.newestJob(job); err != nil {
		return err
	}
	return a.jobs.Restart(job)
}

// newestJob refuses a job that others of its machine have followed: what it would
// go on with is not there any more.
func (a *Appliance) newestJob(id string) error {
	return a.store.View(func(tx *store.Tx) error {
		job, err := tx.Jobs().Get(id)
		if err != nil || job.Machine == "" {
			return err
		}
		newest, err := tx.JobsOf(replication.MachineID(job.Machine)).Page("", 1, true)
		if err == nil && len(newest) > 0 && newest[0].ID != id {
			err = replication.Stopf("job.overtaken", "start the verb anew", "job %s was followed by %s (%s) of the same machine", id, newest[0].Kind, newest[0].ID)
		}
		return err
	})
}

// AnswerJob gives a waiting job its input.
func (a *Appliance) AnswerJob(_ context.Context, _, job, answer string) error {
	return a.jobs.Answer(job, answer)
}

// SavePolicy keeps a policy. It applies to running machines at once.
func (a *Appliance) SavePolicy(ctx context.Context, who api.Who, p replication.Policy) error {
	if err := p.Check(); err != nil {
		return replication.Stopf("policy.invalid", "correct the value", "%w", err)
	}
	if err := a.mayShorten(who.Person, p); err != nil {
		return err
	}
	return a.savePolicy(ctx, who.Name, p, func(replication.Policy) error { return nil })
}

// savePolicy keeps a policy, unless the one that it replaces is not allowed to go.
func (a *Appliance) savePolicy(ctx context.Context, actor string, p replication.Policy, allowed func(now replication.Policy) error) error {
	var using []replication.MachineID
	err := a.store.Update(func(tx *store.Tx) error {
		for m, err := range tx.Machines().All() {
			if err != nil {
				return err
			}
			if m.Policy == p.Name {
				using = append(using, m.ID)
			}
		}
		note := api.AuditOf(ctx)
		note.Object = p.Name
		if old, err := tx.Policies().Get(p.Name); err == nil {
			if err := allowed(old.Policy); err != nil {
				return err
			}
			note.Change(old.Policy, p)
		} else {
			note.Change(nil, p)
		}
		now := time.Now()
		event := store.Event{Time: now, Severity: "info", Code: "policy.saved", Text: fmt.Sprintf("policy %s was saved by %s", p.Name, actor), Args: map[string]string{"policy": p.Name}}
		return errors.Join(tx.Policies().Put(store.Policy{Policy: p}), tx.AddEvent(event))
	})
	for _, id := range using {
		a.protect.Nudge(id)
	}
	return err
}

// AddSite contacts a site and keeps it. Its fingerprint is the one of who answers there,
// when nobody but a person vouches for that.
func (a *Appliance) AddSite(ctx context.Context, actor string, s store.Site) error {
	if strings.TrimSpace(s.Name) == "" || len(s.Name) > 63 {
		return replication.Stopf("site.name", "give it a name of 1 to 63 characters", "a site needs a name")
	}
	free := func(tx *store.Tx) error {
		for other, err := range tx.Sites().All() {
			switch {
			case err != nil:
				return err
			case other.Name == s.Name:
				return replication.Stopf("site.exists", "choose another name", "there is a site %q already", s.Name)
			case samePlace(other, s):
				return replication.Stopf("site.same-place", "work with that site, or remove it first", "%s is the place of site %q already", s.Address, other.Name)
			}
		}
		return nil
	}
	if err := a.store.View(free); err != nil {
		return err
	}
	if err := a.admit(ctx, actor, &s, "the site was not added"); err != nil {
		return err
	}
	if err := a.furnishLab(ctx, s); err != nil {
		return err
	}
	if err := a.sites.Check(ctx, s); err != nil {
		return err
	}
	err := a.store.Update(func(tx *store.Tx) error {
		if err := free(tx); err != nil {
			return err
		}
		s.Created = time.Now()
		event := store.Event{Time: s.Created, Severity: "info", Code: "site.added", Text: fmt.Sprintf("site %s was added by %s", s.Name, actor), Args: map[string]string{"site": s.Name}}
		return errors.Join(tx.Sites().Put(s), tx.AddEvent(event))
	})
	if err != nil {
		return err
	}
	// The site was contacted above; others that are away are told under
	// Infrastructure, not to who added this one.
	a.sites.Nudge()
	return nil
}

// samePlace reports whether two records lead to the same machines: under two names, the
// captures of one would be what a program that died left behind to the other. Of a host
// that has two addresses it is not known.
func samePlace(a, b store.Site) bool {
	if a.Kind != b.Kind || a.Kind == "lab" { // in the lab a name is a place
		return false
	}
	if a.Address == b.Address {
		return true
	}
	one, err := os.Stat(a.Address)
	if err != nil {
		return false
	}
	other, err := os.Stat(b.Address)
	return err == nil && os.SameFile(one, other)
}

// RemoveSite forgets a site that no protected machine needs.
func (a *Appliance) RemoveSite(_ context.Context, actor, name string) error {
	err := a.store.Update(func(tx *store.Tx) error {
		if _, err := tx.Sites().Get(name); errors.Is(err, store.ErrNotFound) {
			return replication.Stopf("site.unknown", "choose one of the sites under Infrastructure", "there is no site %q", name)
		}
		for m, err := range tx.Machines().All() {
			if err != nil {
				return err
			}
			if m.Source.Site == name || m.Target.Site == name {
				return replication.Stopf("site.in-use", "disable the protection of its machines first", "site %s is used by machine %s", name, m.Name)
			}
		}
		now := time.Now()
		event := store.Event{Time: now, Severity: "info", Code: "site.removed", Text: fmt.Sprintf("site %s was removed by %s", name, actor), Args: map[string]string{"site": name}}
		return errors.Join(tx.Sites().Delete(name), tx.AddEvent(event))
	})
	a.sites.Nudge()
	return err
}
