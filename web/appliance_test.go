package web_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"riparo/appliance/identity"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/report"
	"riparo/store"
	"riparo/web"
	"riparo/web/api"
)

// appliance answers the console from a real store. Its jobs do nothing but move:
// what they would do is not the console's concern.
type appliance struct {
	store   *store.Store
	now     func() time.Time
	reports atomic.Int64 // that were asked for
	panics  atomic.Bool  // when it is next asked for points

	mu      sync.Mutex // guards the rest
	points  map[replication.MachineID][]replication.RecoveryPoint
	sites   []api.DiscoveredSite
	figure  map[replication.MachineID]report.Machine
	sent    []float64
	asked   []api.Request
	vault   error
	clock   *store.Finding
	shown   string // the fingerprint of hosts over TLS
	plan    api.BackupPlan
	notify  api.Notifications
	told    []string
	guarded []string
	kept    []api.Kept
	unkept  error // instead of what is kept
	keeps   error // the answer to who wants it erased

	seeds    []api.Seed
	protects []api.ProtectRequest
	taken    []byte // a backup that was sent
	restored []api.RestoreRequest

	people *identity.Identity
}

func (a *appliance) AddUser(ctx context.Context, who api.Who, name, password string, role store.Role) error {
	return a.people.AddUser(ctx, who.Name, name, password, role)
}

func (a *appliance) ChangeUser(ctx context.Context, who api.Who, name string, c api.UserChange) error {
	return a.people.Change(ctx, who.Name, name, c)
}

func (a *appliance) SaveOpenID(ctx context.Context, who api.Who, o api.OpenID) error {
	return a.people.SaveOpenID(ctx, who.Name, o)
}

func (a *appliance) SaveDirectory(ctx context.Context, who api.Who, d api.Directory) error {
	return a.people.SaveDirectory(ctx, who.Name, d)
}

func (a *appliance) SaveSecondRule(_ context.Context, who api.Who, roles []store.Role) error {
	return a.people.SaveSecondRule(who.Name, roles)
}

var _ web.Appliance = (*appliance)(nil)

func (a *appliance) Report() report.Report {
	a.reports.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	r := report.Report{Time: a.now(), Machines: map[replication.MachineID]report.Machine{}, Throughput: slices.Clone(a.sent)}
	for id, m := range a.figure {
		r.Machines[id] = m
		r.SentPerSecond += m.SentPerSecond
	}
	return r
}

func (a *appliance) Subscribe() (<-chan struct{}, func() []string, func()) {
	return a.store.Subscribe()
}

func (a *appliance) Discovered(context.Context, bool) ([]api.DiscoveredSite, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sites), nil
}

func (a *appliance) Points(_ context.Context, id replication.MachineID) ([]replication.RecoveryPoint, error) {
	if a.panics.Swap(false) {
		panic("told to by the test")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.points[id]), nil
}

func (a *appliance) Vault(context.Context) (api.VaultUsage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return api.VaultUsage{StoredBytes: 212 << 30, LogicalBytes: 1400 << 30, FreeBytes: 610 << 30, Points: 3412, Clock: a.clock}, a.vault
}

func (a *appliance) Protect(_ context.Context, r api.ProtectRequest) (replication.MachineID, string, error) {
	a.mu.Lock()
	a.protects = append(a.protects, r)
	a.mu.Unlock()
	for key, name := range r.Seeded {
		if name == "gone.raw" {
			return "", "", &replication.Problem{Code: "image.missing", Cause: "there is no image gone.raw for " + key, Action: "bring it", Remedy: replication.Stop}
		}
	}
	id := replication.MachineID("m-new")
	m := store.Machine{ID: id, Name: "new01", Source: store.Place{Site: r.Site, Ref: string(r.Ref)}, Target: store.Place{Site: r.Target},
		Scenario: lifecycle.Lab, Direction: lifecycle.Forward, State: lifecycle.InitialReplication, Since: a.now(), Policy: r.Policy, Created: a.now()}
	if err := a.store.Update(func(tx *store.Tx) error { return tx.Machines().Put(m) }); err != nil {
		return "", "", err
	}
	job, err := a.begin(lifecycle.EnableProtection, m, r.Actor, "check prerequisites", "create the replication relationship", "initial replication", "finalize protection")
	return id, job, err
}

func (a *appliance) Seeds(context.Context) (api.Seeds, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return api.Seeds{Folder: "/srv/riparo/seeds", Images: slices.Clone(a.seeds)}, nil
}

func (a *appliance) Ask(_ context.Context, r api.Request) (string, error) {
	a.mu.Lock()
	a.asked = append(a.asked, r)
	a.mu.Unlock()
	var m store.Machine
	busy := false
	err := a.store.View(func(tx *store.Tx) (err error) {
		if m, err = tx.Machines().Get(string(r.Machine)); err != nil {
			return err
		}
		page, err := tx.UnfinishedJobs(r.Machine).Page("", 1, false)
		busy = len(page) > 0
		return err
	})
	if err != nil {
		return "", err
	}
	s := lifecycle.Situation{Scenario: m.Scenario, Direction: m.Direction, State: m.State, Drill: m.Drill, Paused: m.Paused, HasPoints: true, Busy: busy}
	if why := lifecycle.Why(s, r.Verb); why != "" {
		return "", &replication.Problem{Code: "verb.denied", Cause: why, Action: "see what can be done now", Remedy: replication.Stop}
	}
	switch r.Verb {
	case lifecycle.PlannedFailover, lifecycle.UnplannedFailover, lifecycle.Failback, lifecycle.DisableProtection:
		if r.Confirm != m.Name {
			return "", &replication.Problem{Code: "confirm.wrong", Cause: fmt.Sprintf("the name %q is not that of the machine", r.Confirm), Effect: "nothing was done", Action: "type " + m.Name, Remedy: replication.Stop}
		}
	case lifecycle.Pause, lifecycle.Resume:
		return "", a.store.Update(func(tx *store.Tx) error {
			m.Paused = r.Verb == lifecycle.Pause
			return tx.Machines().Put(m)
		})
	}
	return a.begin(r.Verb, m, r.Actor, "choose the recovery point", "create the test machine", "start the test machine", "see it boot")
}

func (a *appliance) begin(kind lifecycle.Verb, m store.Machine, actor string, steps ...string) (string, error) {
	j := store.Job{ID: store.NewID(a.now()), Kind: string(kind), Machine: string(m.ID), Name: m.Name, Actor: actor, State: store.InProgress, Created: a.now()}
	for i, name := range steps {
		step := store.Step{Name: name, State: store.NotStarted}
		if i == 0 {
			step.State, step.Started, step.Total = store.InProgress, a.now(), 64<<20
		}
		j.Steps = append(j.Steps, step)
	}
	return j.ID, a.store.Update(func(tx *store.Tx) error { return tx.Jobs().Put(j) })
}

// advance moves a job by a quarter of a step; at the end of the last one it has
// succeeded.
func (a *appliance) advance(id string) error {
	return a.store.Update(func(tx *store.Tx) error {
		j, err := tx.Jobs().Get(id)
		if err != nil {
			return err
		}
		for i := range j.Steps {
			s := &j.Steps[i]
			if s.State.Ended() {
				continue
			}
			if s.State == store.NotStarted {
				s.State, s.Started, s.Total = store.InProgress, a.now(), 64<<20
			}
			if s.Done += 16 << 20; s.Done >= s.Total {
				s.State, s.Ended = store.Succeeded, a.now()
				s.Evidence = []store.Fact{{Name: "console", Value: "login:"}, {Name: "took", Value: "1.2s"}}
			}
			return tx.Jobs().Put(j)
		}
		j.State, j.Ended = store.Succeeded, a.now()
		return tx.Jobs().Put(j)
	})
}

func (a *appliance) change(id string, change func(*store.Job)) error {
	return a.store.Update(func(tx *store.Tx) error {
		j, err := tx.Jobs().Get(id)
		if err != nil {
			return err
		}
		change(&j)
		return tx.Jobs().Put(j)
	})
}

func (a *appliance) CancelJob(_ context.Context, _, id string) error {
	return a.change(id, func(j *store.Job) { j.CancelAsk = true })
}

func (a *appliance) RestartJob(_ context.Context, _, id string) error {
	return a.change(id, func(j *store.Job) { j.State, j.Error = store.InProgress, nil })
}

func (a *appliance) AnswerJob(_ context.Context, _, id, answer string) error {
	return a.change(id, func(j *store.Job) {
		j.State, j.Question, j.Data = store.InProgress, "", map[string]string{"answer": answer}
	})
}

func (a *appliance) SavePolicy(_ context.Context, _ api.Who, p replication.Policy) error {
	return a.store.Update(func(tx *store.Tx) error { return tx.Policies().Put(store.Policy{Policy: p}) })
}

func (a *appliance) AddSite(ctx context.Context, actor string, s store.Site) error {
	if s.Address == "nowhere" {
		return &replication.Problem{Code: "site.unreachable", Cause: "the folder nowhere does not exist", Effect: "the site was not added", Action: "check the address", Remedy: replication.Stop}
	}
	if p, _ := a.Peer(ctx, s); p != nil && (!p.Known || p.Kind == "x509") {
		if s.Fingerprint != p.Fingerprint {
			return &replication.Problem{Code: "peer.unknown", Cause: "nobody has confirmed yet who answers at " + p.Host, Effect: "the site was not added", Action: "confirm it", Remedy: replication.Stop}
		}
		if p.Kind != "x509" {
			a.TrustPeer(ctx, actor, s, s.Fingerprint)
		}
	}
	a.mu.Lock()
	a.sites = append(a.sites, api.DiscoveredSite{Site: s, About: hypervisor.Description{Kind: s.Kind, Emulated: s.Kind == "lab"}, Seen: a.now()})
	a.mu.Unlock()
	return a.store.Update(func(tx *store.Tx) error { return tx.Sites().Put(s) })
}

func (a *appliance) RemoveSite(_ context.Context, _, name string) error {
	err := a.store.Update(func(tx *store.Tx) error {
		if _, err := tx.Sites().Get(name); err != nil {
			return err
		}
		return tx.Sites().Delete(name)
	})
	if errors.Is(err, store.ErrNotFound) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sites = slices.DeleteFunc(a.sites, func(s api.DiscoveredSite) bool { return s.Site.Name == name })
	return err
}

const gib = int64(1) << 30

// furnish fills the store with a site that has lived: machines in many states,
// jobs, events, and an hour of figures.
func (a *appliance) furnish() error {
	now := a.now()
	a.points = map[replication.MachineID][]replication.RecoveryPoint{}
	a.figure = map[replication.MachineID]report.Machine{}
	for i := range report.HistorySamples {
		a.sent = append(a.sent, float64(9<<20)*(1+math.Sin(float64(i)/23)*0.6+math.Sin(float64(i)/3.1)*0.2))
	}
	gold := replication.DefaultPolicy()
	gold.Name, gold.CopyFrequency, gold.RPOThreshold, gold.BytesPerSecond = "gold", 5*time.Second, time.Minute, 40<<20
	policies := []replication.Policy{replication.DefaultPolicy(), gold}
	sites := []store.Site{{Name: "Milano", Kind: "lab", Address: "/srv/lab/milano", Created: now.Add(-40 * 24 * time.Hour), Contacted: now.Add(-20 * time.Second), Reachable: true},
		{Name: "Roma", Kind: "kvm-libvirt", Address: "qemu+tls://dr1.roma.example/system", Created: now.Add(-40 * 24 * time.Hour), Contacted: now.Add(-35 * time.Second), Reachable: true}}
	machines := a.machines(now)
	protects := map[hypervisor.Ref]string{}
	var there []hypervisor.Machine
	for _, m := range machines {
		protects[hypervisor.Ref(m.Source.Ref)] = string(m.ID)
		there = append(there, hypervisor.Machine{Ref: hypervisor.Ref(m.Source.Ref), Name: m.Name, Power: hypervisor.Running})
	}
	there = append(there,
		hypervisor.Machine{Ref: "r-9", Name: "print01", Power: hypervisor.Running, CPUs: 2, MemoryMiB: 4096, OS: "Debian 12", Disks: []hypervisor.Disk{{Key: "vda", Size: 32 * gib, Boot: true}, {Key: "vdb", Size: 8 * gib}}},
		hypervisor.Machine{Ref: "r-10", Name: "legacy-fax", Power: hypervisor.Stopped, CPUs: 1, MemoryMiB: 512, Disks: []hypervisor.Disk{{Key: "hda", Size: 4 * gib, Boot: true}},
			Obstacles: []string{"the disk hda is shared with another machine: detach it, or leave it out"}})
	a.sites = []api.DiscoveredSite{
		{Site: sites[0], About: hypervisor.Description{Kind: "lab", Address: sites[0].Address, Emulated: true}, Seen: now.Add(-20 * time.Second), Machines: there, Protects: protects,
			Networks: []hypervisor.Network{{Name: "office"}, {Name: "bubble", Isolated: true}}},
		{Site: sites[1], About: hypervisor.Description{Kind: "kvm-libvirt", Address: sites[1].Address}, Seen: now.Add(-35 * time.Second),
			Networks: []hypervisor.Network{{Name: "dr-front"}, {Name: "dr-test", Isolated: true}}, Machines: []hypervisor.Machine{{Ref: "x-1", Name: "erp-app-02", Power: hypervisor.Running, Replica: true}}}}
	jobs := a.jobs(now)
	events := a.events(now)
	return a.store.Update(func(tx *store.Tx) error {
		for _, p := range policies {
			if err := tx.Policies().Put(store.Policy{Policy: p}); err != nil {
				return err
			}
		}
		for _, s := range sites {
			if err := tx.Sites().Put(s); err != nil {
				return err
			}
		}
		for _, m := range machines {
			if err := tx.Machines().Put(m); err != nil {
				return err
			}
		}
		for _, j := range jobs {
			if err := tx.Jobs().Put(j); err != nil {
				return err
			}
		}
		for _, e := range events {
			if err := tx.Events().Put(e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *appliance) machines(now time.Time) []store.Machine {
	disk := func(name, key string, size int64) store.Disk {
		return store.Disk{Key: key, ID: replication.DiskID(name + "." + key), Size: size * gib, Boot: key == "vda"}
	}
	base := func(id, name, policy string, state lifecycle.State, rpo time.Duration) store.Machine {
		m := store.Machine{ID: replication.MachineID(id), Name: name, Source: store.Place{Site: "Milano", Ref: "r-" + id}, Target: store.Place{Site: "Roma"}, Scenario: lifecycle.Lab,
			Direction: lifecycle.Forward, State: state, Since: now.Add(-9 * 24 * time.Hour), Policy: policy, Epoch: 1, Health: store.Health{Level: store.Healthy},
			Disks: []store.Disk{disk(name, "vda", 40), disk(name, "vdb", 200)}, Created: now.Add(-30 * 24 * time.Hour)}
		if rpo > 0 {
			a.points[m.ID] = history(now.Add(-rpo), m)
			m.LastPoint = &a.points[m.ID][0]
			for i, p := range a.points[m.ID] {
				if p.Consistency == replication.AppConsistent {
					m.LastApp = &a.points[m.ID][i]
					break
				}
			}
			f := report.Machine{Activity: "idle", PointTime: now.Add(-rpo), SentPerSecond: 2.3e6, LastCycle: 1840 * time.Millisecond, LastBytes: 6 << 20, NextCycle: now.Add(11 * time.Second)}
			for i := range report.HistorySamples {
				sample := 8 + 4*math.Sin(float64(i)/7+float64(len(name)))
				if rpo > 5*time.Minute {
					sample += rpo.Seconds() * math.Pow(float64(i)/report.HistorySamples, 4)
				}
				if name == "files" && i > 200 && i < 230 {
					sample = -1
				}
				f.RPO = append(f.RPO, sample)
			}
			a.figure[m.ID] = f
		}
		return m
	}
	web01 := base("m-4f7c21aa", "web01", "default", lifecycle.Protected, 12*time.Second)
	web01.LastDrill = &store.DrillResult{Started: now.Add(-50 * time.Hour), Finished: now.Add(-50*time.Hour + 41*time.Second), Passed: true, Notes: "Login page answered.",
		Evidence: []store.Fact{{Name: "console", Value: "web01 login:"}, {Name: "disk identity", Value: "sha256 9c1f…e2 equal"}}}
	db01 := base("m-5b10c3d2", "sql-prod-01", "gold", lifecycle.Protected, 14*time.Minute+12*time.Second)
	db01.Health = store.Health{Level: store.Warning, Findings: []store.Finding{{Code: "rpo.breached", Level: string(store.Warning), Since: now.Add(-13 * time.Minute),
		Cause: "the newest recovery point is older than 1m0s", Effect: "a failover now would lose more than agreed", Action: "see what replication waits for, or raise the threshold in the policy"}}}
	f := a.figure[db01.ID]
	f.Activity, f.Done, f.Total, f.SentPerSecond = "reading changes of vdb", 22*gib, 31*gib, 38<<20
	a.figure[db01.ID] = f
	erp := base("m-77aa01fe", "erp-app-02", "default", lifecycle.CommitPending, 3*time.Hour)
	erp.Failover = &store.Failover{Kind: lifecycle.Unplanned, Point: a.points[erp.ID][3].ID, PointTime: a.points[erp.ID][3].Time, Consistency: replication.AppConsistent, Started: now.Add(-25 * time.Minute)}
	erp.Since = now.Add(-24 * time.Minute)
	mail := base("m-91ce0b33", "mail", "default", lifecycle.InitialReplication, 0)
	a.figure[mail.ID] = report.Machine{Activity: "reading vda", Done: 11 * gib, Total: 40 * gib, SentPerSecond: 52 << 20}
	files := base("m-a2b3c4d5", "files", "default", lifecycle.Protected, 21*time.Second)
	files.Drill = lifecycle.DrillRunning
	files.Test = &store.TestFailover{Ref: "t-1", Point: a.points[files.ID][1].ID, Started: now.Add(-6 * time.Minute), Job: "j"}
	dc := base("m-c0ffee00", "dc-rome-legacy", "gold", lifecycle.Committed, 40*time.Hour)
	dc.Failover = &store.Failover{Kind: lifecycle.Planned, Started: now.Add(-39 * time.Hour), Committed: now.Add(-30 * time.Hour)}
	dc.Health = store.Health{Level: store.Critical, Findings: []store.Finding{{Code: "both.active", Level: string(store.Critical), Since: now.Add(-3 * time.Minute),
		Cause: "the source runs again while the replica owns the machine", Effect: "what is written to the source is lost at reverse replication; its data cannot reach the vault", Action: "shut the source down"}}}
	return []store.Machine{web01, db01, erp, mail, files, dc}
}

// history is what a policy leaves: all points of an hour, then fewer.
func history(newest time.Time, m store.Machine) []replication.RecoveryPoint {
	var points []replication.RecoveryPoint
	add := func(at time.Time, kind replication.Consistency) {
		points = append(points, replication.RecoveryPoint{ID: replication.PointID(at.UTC().Format("20060102T150405.000Z") + "-0a1b2c3d"), Time: at, Consistency: kind,
			Disks: []replication.DiskID{m.Disks[0].ID}, ChangedBytes: 14 << 20, StoredBytes: 6 << 20})
	}
	for age := time.Duration(0); age < time.Hour; age += 30 * time.Second {
		kind := replication.CrashConsistent
		if age == 17*time.Minute {
			kind = replication.AppConsistent
		}
		add(newest.Add(-age), kind)
	}
	for age := time.Hour; age < 24*time.Hour; age += 5 * time.Minute {
		kind := replication.CrashConsistent
		if age%time.Hour == 0 {
			kind = replication.AppConsistent
		}
		add(newest.Add(-age), kind)
	}
	for age := 24 * time.Hour; age < 15*24*time.Hour; age += time.Hour {
		kind := replication.AppConsistent
		if age == 9*24*time.Hour {
			kind = replication.Clean
		}
		add(newest.Add(-age), kind)
	}
	return points
}

func (a *appliance) jobs(now time.Time) []store.Job {
	steps := func(done int, names ...string) []store.Step {
		var list []store.Step
		for i, n := range names {
			s := store.Step{Name: n, State: store.NotStarted}
			if i < done {
				s.State, s.Started, s.Ended = store.Succeeded, now.Add(-6*time.Minute), now.Add(-6*time.Minute+1300*time.Millisecond)
				s.Evidence = []store.Fact{{Name: "console", Value: "[    1.92] EXT4-fs (vda1): mounted\nweb01 login:"}}
			} else if i == done {
				s.State, s.Started = store.InProgress, now.Add(-50*time.Second)
			}
			list = append(list, s)
		}
		return list
	}
	initial := store.Job{ID: "20261123T080000.000Z-0000001", Kind: "enable-protection", Machine: "m-91ce0b33", Name: "mail", Actor: "anna", State: store.InProgress, Created: now.Add(-8 * time.Minute),
		Steps: steps(2, "check prerequisites", "create the replication relationship", "initial replication", "finalize protection")}
	initial.Steps[2].Done, initial.Steps[2].Total = 11*gib, 40*gib
	waiting := store.Job{ID: "20261123T080100.000Z-0000002", Kind: "failback", Machine: "m-c0ffee00", Name: "dc-rome-legacy", Actor: "anna", State: store.WaitingForInput, Created: now.Add(-20 * time.Minute),
		Question: "The original machine has a snapshot. Remove it and go on? (yes/no)", Steps: steps(1, "prepare the original machine", "bring the original disks up to date", "shut down the replica")}
	failed := store.Job{ID: "20261123T070000.000Z-0000003", Kind: "test-failover", Machine: "m-5b10c3d2", Name: "sql-prod-01", Actor: "anna", State: store.Failed, Created: now.Add(-2 * time.Hour), Ended: now.Add(-2*time.Hour + 94*time.Second),
		Steps: steps(3, "choose the recovery point", "create the test machine", "start the test machine", "see it boot"),
		Error: &store.Finding{Code: "boot.silent", Level: string(store.Critical), Since: now.Add(-2*time.Hour + 94*time.Second), Cause: "the test machine printed nothing for 90 s", Effect: "nobody has seen it boot; the test did not pass", Action: "read its console at the target, then clean up and try another recovery point"}}
	failed.Steps[3].State, failed.Steps[3].Ended = store.Failed, failed.Ended
	done := store.Job{ID: "20261122T070000.000Z-0000004", Kind: "test-failover", Machine: "m-4f7c21aa", Name: "web01", Actor: "token ci", State: store.Succeeded, Created: now.Add(-50 * time.Hour), Ended: now.Add(-50*time.Hour + 41*time.Second),
		Steps: steps(4, "choose the recovery point", "create the test machine", "start the test machine", "see it boot"), Params: map[string]string{"point": "20261121T070000.000Z-0a1b2c3d"}}
	return []store.Job{initial, waiting, failed, done}
}

func (a *appliance) events(now time.Time) []store.Event {
	list := []store.Event{
		{Severity: "critical", Code: "both.active", Machine: "m-c0ffee00", Name: "dc-rome-legacy", Text: "the source runs again while the replica owns the machine: both are active", Action: "shut the source down; it cannot write to the vault any more"},
		{Severity: "warning", Code: "rpo.breached", Machine: "m-5b10c3d2", Name: "sql-prod-01", Text: "the newest recovery point is older than 1m0s", Args: map[string]string{"threshold": "1m0s"}},
		{Severity: "info", Code: "job.started", Machine: "m-91ce0b33", Name: "mail", Job: "20261123T080000.000Z-0000001", Text: "enable protection was started by anna"},
		{Severity: "critical", Code: "job.failed", Machine: "m-5b10c3d2", Name: "sql-prod-01", Job: "20261123T070000.000Z-0000003", Text: "test failover failed: the test machine printed nothing for 90 s"},
		{Severity: "info", Code: "setup.claimed", Text: "the appliance was claimed by anna, its administrator", Args: map[string]string{"user": "anna"}},
	}
	for i := range list {
		list[i].Time = now.Add(-time.Duration(3+i*17) * time.Minute)
		list[i].ID = store.NewID(list[i].Time)
	}
	for i := range 60 {
		at := now.Add(-time.Duration(200+i*30) * time.Minute)
		list = append(list, store.Event{ID: store.NewID(at), Time: at, Severity: "info", Code: "rpo.met", Machine: "m-4f7c21aa", Name: "web01", Text: "the recovery point objective is met again"})
	}
	return list
}

// note keeps what was asked for, as "verb argument …".
func (a *appliance) note(what string, of ...string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.guarded = append(a.guarded, strings.Join(append([]string{what}, of...), " "))
	return nil
}

func (a *appliance) DismissAlarm(_ context.Context, who api.Who, m replication.MachineID, note string) error {
	return a.note("dismiss", who.Person, string(m), note)
}

func (a *appliance) Pin(_ context.Context, who api.Who, m replication.MachineID, p replication.PointID, note string) error {
	return a.note("pin", who.Person, string(m), string(p))
}

func (a *appliance) Unpin(_ context.Context, who api.Who, m replication.MachineID, p replication.PointID) error {
	return a.note("unpin", who.Person, string(m), string(p))
}

func (a *appliance) DeletePoints(_ context.Context, who api.Who, m replication.MachineID, points []replication.PointID) error {
	return a.note("delete", who.Person, string(m), fmt.Sprint(points))
}

func (a *appliance) Kept(context.Context) ([]api.Kept, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.kept), a.unkept
}

func (a *appliance) EraseKept(_ context.Context, who api.Who, id, confirm string) error {
	return cmp.Or(a.keeps, a.note("erase", who.Person, id, confirm))
}

func (a *appliance) Approve(_ context.Context, person, id string) error {
	return a.note("approve", person, id)
}
func (a *appliance) Refuse(_ context.Context, person, id string) error {
	return a.note("refuse", person, id)
}
func (a *appliance) ScrubNow(context.Context) error { return a.note("scrub") }
func (a *appliance) ConfirmClock(_ context.Context, who api.Who) error {
	return a.note("clock", who.Person)
}

func (a *appliance) Scrub(context.Context) (api.ScrubStatus, error) {
	return api.ScrubStatus{Running: true, DoneBytes: 1 << 30, TotalBytes: 4 << 30, BytesPerSecond: 8 << 20, Passes: 3, Completed: a.now().Add(-50 * time.Hour), CompletedBytes: 4 << 30,
		Findings: []api.Rot{{Disk: "m-web.vda", Offset: 65536, Length: 65536, Points: []replication.PointID{"p1", "p2"}, Reason: "a block has a wrong checksum"}}}, nil
}

// disksOf are those of a discovered machine.
func (a *appliance) disksOf(site, ref string) []hypervisor.Disk {
	for _, s := range a.sites {
		for _, m := range s.Machines {
			if s.Site.Name == site && string(m.Ref) == ref {
				return m.Disks
			}
		}
	}
	return nil
}
