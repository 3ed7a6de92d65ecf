package appliance

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	auditlog "riparo/appliance/audit"
	"riparo/appliance/discovery"
	"riparo/appliance/docs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/noise"
	"riparo/replication/report"
	"riparo/replication/vfs"
	"riparo/store"
	"riparo/store/logs"
	"riparo/web"
	"riparo/web/api"
)

// crowd is how much an appliance has of everything.
type crowd struct {
	machines, points       int // points of each machine
	jobs, events, alerts   int
	changes, sessions      int // in the audit log; signed in
	policies, sites, users int
	logBytes               int64
	asleep                 bool // every machine is paused, and its sites are of the lab
}

// Two sizes of an appliance: that of the goal, and one with as many machines that is
// made quickly.
var (
	largeCrowd = crowd{machines: 1000, points: 50, jobs: store.MaxJobs, events: store.MaxEvents, alerts: store.MaxAlerts, changes: 10_000, sessions: 220, policies: 30, sites: 12, users: 100, logBytes: 64 << 20}
	quickCrowd = crowd{machines: 1000, points: 2, jobs: 1500, events: 4000, alerts: 400, changes: 500, sessions: 220, policies: 30, sites: 12, users: 100, logBytes: 2 << 20}
)

// crowded is an appliance with a crowd, and its console. Nothing runs but what
// answers.
type crowded struct {
	testing.TB
	*Appliance
	size    crowd
	console *web.Console
	cookie  string // of an administrator
	history []float64
	random  *rand.Rand
}

const crowdPassword = "quattro passi nel bosco"

// newCrowded makes an appliance of this size. Its records, its vault and its log are
// real ones; only the machines at its sites are listed by a place that has none.
func newCrowded(t testing.TB, size crowd, seed uint64) *crowded {
	t.Helper()
	c := &crowded{TB: t, size: size, random: rand.New(rand.NewPCG(seed, 4))}
	data := t.TempDir()
	c.fill(data)
	a, err := Open(t.Context(), Config{Data: data, Listen: "127.0.0.1:0", FS: unsynced{vfs.OS()}})
	if err != nil {
		t.Fatal(err)
	}
	c.Appliance = a
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	a.sites = discovery.New(a.store, func(_ context.Context, s store.Site) (hypervisor.Provider, error) { return c.place(s.Name), nil }, a.log)
	if err := a.sites.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.fillVault()
	for i := range report.HistorySamples + 100 {
		c.history = append(c.history, 20+15*math.Sin(float64(i)/9)+float64(c.random.IntN(10)))
	}
	c.console, err = web.New(web.Config{Store: a.store, Appliance: storied{a, c.history}, Identity: a.identity, Audit: a.audit, Logger: a.part("console"), Logs: logs.NewReader(LogFolder(data)), Secrets: a.secrets, Docs: docs.Manual, Licenses: licensed()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.console.Close() })
	c.claim()
	return c
}

// storied is an appliance whose machines have all been replicated for an hour: its
// report has full histories.
type storied struct {
	*Appliance
	history []float64
}

func (s storied) Report() api.Report {
	r := s.Appliance.Report()
	n := 0
	for id, m := range r.Machines {
		m.RPO = slices.Clone(s.history[n%100 : n%100+report.HistorySamples])
		m.SentPerSecond, m.LastCycle, m.LastBytes = 3<<20, 1800*time.Millisecond, 6<<20
		r.Machines[id] = m
		n++
	}
	r.Throughput = slices.Clone(s.history[:report.HistorySamples])
	return r
}

func crowdID(i int) string { return fmt.Sprintf("m-%08x", i) }

func crowdJob(at time.Time, i int) string {
	return fmt.Sprintf("%s-%07d", at.UTC().Format("20060102T150405.000Z"), i)
}

// put writes n records in transactions of a thousand.
func put[T any](t testing.TB, st *store.Store, table func(*store.Tx) store.Table[T], n int, make func(i int) T) {
	t.Helper()
	for from := 0; from < n; from += 1000 {
		if err := st.Update(func(tx *store.Tx) error {
			for i := from; i < min(from+1000, n); i++ {
				if err := table(tx).Put(make(i)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// fill makes the records and the log.
func (c *crowded) fill(data string) {
	c.Helper()
	st, err := store.Open(filepath.Join(data, "state.db"), store.Options{NoSync: true})
	if err != nil {
		c.Fatal(err)
	}
	now := time.Now()
	put(c, st, (*store.Tx).Policies, c.size.policies, func(i int) store.Policy {
		p := replication.DefaultPolicy()
		if i > 0 {
			p.Name = fmt.Sprintf("policy-%02d", i)
		}
		return store.Policy{Policy: p}
	})
	put(c, st, (*store.Tx).Sites, c.size.sites, func(i int) store.Site {
		if c.size.asleep {
			return store.Site{Name: c.site(i), Kind: "lab", Created: now, Contacted: now, Reachable: true}
		}
		return store.Site{Name: c.site(i), Kind: "kvm-libvirt", Address: "qemu+tls://127.0.0.1:1/system", Created: now, Contacted: now, Reachable: true}
	})
	put(c, st, (*store.Tx).Machines, c.size.machines, func(i int) store.Machine { return c.machine(i, now) })
	put(c, st, (*store.Tx).Jobs, c.size.jobs, func(i int) store.Job { return c.job(i, now) })
	put(c, st, (*store.Tx).Events, c.size.events, func(i int) store.Event {
		at, m := now.Add(-time.Duration(c.size.events-i)*time.Minute/2), i%c.size.machines
		e := store.Event{ID: crowdJob(at, i), Time: at, Severity: store.SeverityInfo, Code: "rpo.met", Machine: crowdID(m), Name: c.name(m), Text: "the recovery point objective is met again"}
		switch i % 9 {
		case 4:
			e.Severity, e.Code, e.Text, e.Args = store.SeverityWarning, "rpo.breached", "the newest recovery point is older than 15m0s", map[string]string{"threshold": "15m0s"}
		case 7:
			if i%90 == 7 {
				e.Severity, e.Code, e.Text, e.Action = store.SeverityCritical, "job.failed", "test failover failed: the test machine printed nothing for 90 s", "read its console at the target"
			}
		}
		return e
	})
	put(c, st, (*store.Tx).Alerts, c.size.alerts, func(i int) store.Alert {
		at, m := now.Add(-time.Duration(c.size.alerts-i)*time.Minute), i%c.size.machines
		a := store.Alert{ID: crowdJob(at, i), Kind: "rpo.breached", Subject: crowdID(m), Machine: crowdID(m), Name: c.name(m), Severity: "warning", Since: at, Ended: at.Add(time.Minute),
			Args: map[string]string{"limit_seconds": "900", "point_time": at.UTC().Format(time.RFC3339)}}
		if i >= c.size.alerts-c.size.machines/5 { // every fifth machine is late now
			a.Ended = time.Time{}
		}
		return a
	})
	put(c, st, (*store.Tx).Tokens, c.size.users/2, func(i int) store.Token {
		return store.Token{ID: fmt.Sprintf("t-%03d", i), Name: fmt.Sprintf("program %d", i), Role: store.Viewer, Hash: fmt.Appendf(make([]byte, 0, 32), "%032d", i), By: "anna", Created: now, LastUsed: now}
	})
	put(c, st, (*store.Tx).Sessions, c.size.sessions, func(i int) store.Session { return c.session(i, now) })
	put(c, st, (*store.Tx).Approvals, 200, func(i int) store.Approval {
		at := now.Add(-time.Duration(200-i) * time.Hour)
		return store.Approval{ID: crowdJob(at, i), Kind: "delete-points", Machine: replication.MachineID(crowdID(i)), Name: c.name(i), Text: "delete 3 recovery points of " + c.name(i), State: store.ApprovalWaiting, RequestedBy: "bruno", Requested: at, Expires: now.Add(time.Hour)}
	})
	audit, err := auditlog.Open(st, auditlog.Options{KeyFile: filepath.Join(data, "pki", "audit.key")})
	if err != nil {
		c.Fatal(err)
	}
	for i := range c.size.changes {
		line := store.AuditLine{Time: now, Actor: "anna", Role: store.Administrator, Address: "192.0.2.7", Action: "machine.pause", Object: crowdID(i % c.size.machines), Detail: `{"verb":"pause"}`, Outcome: store.AuditAsked}
		if i%2 == 1 {
			line.Of, line.Outcome = uint64(i), store.AuditDone
		}
		if _, err := audit.Append(line); err != nil {
			c.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		c.Fatal(err)
	}
	c.fillLog(LogFolder(data), now)
}

func (c *crowded) site(i int) string { return fmt.Sprintf("site-%02d", i%c.size.sites) }

func (c *crowded) name(i int) string {
	return fmt.Sprintf("srv-%s-%04d", []string{"web", "sql", "erp", "file"}[i%4], i)
}

func (c *crowded) machine(i int, now time.Time) store.Machine {
	id, name := replication.MachineID(crowdID(i)), c.name(i)
	m := store.Machine{ID: id, Name: name, Source: store.Place{Site: c.site(0), Ref: "r-" + string(id)}, Target: store.Place{Site: c.site(1 + i%(c.size.sites-1))}, Scenario: lifecycle.KVMToSecondary,
		Direction: lifecycle.Forward, State: lifecycle.Protected, Since: now.Add(-9 * 24 * time.Hour), Policy: "default", Epoch: 1, Health: store.Health{Level: store.Healthy}, Created: now.Add(-40 * 24 * time.Hour), Paused: c.size.asleep,
		Noise: map[replication.DiskID]noise.State{}}
	m.Shape = c.shape(i)
	for _, d := range m.Shape.Disks {
		disk := store.Disk{Key: d.Key, ID: replication.DiskID(name + "." + d.Key), Size: d.Size, Boot: d.Boot, Excluded: !d.Boot}
		m.Noise[disk.ID] = noise.State{Since: now, Last: now, Usual: 12.5, Clean: now}
		m.Disks = append(m.Disks, disk)
	}
	m.LastPoint = &replication.RecoveryPoint{ID: crowdPoint(now), Time: now.Add(-time.Duration(i%40) * time.Second), Disks: []replication.DiskID{m.Disks[0].ID}, ChangedBytes: 14 << 20, StoredBytes: 6 << 20}
	m.LastApp = m.LastPoint
	m.LastDrill = &store.DrillResult{Started: now.Add(-time.Duration(i%300) * 24 * time.Hour), Finished: now.Add(-time.Duration(i%300)*24*time.Hour + 41*time.Second), Passed: true, Notes: "Login page answered.",
		Evidence: []store.Fact{{Name: "console", Value: name + " login:"}}}
	switch {
	case i%5 == 0:
		m.LastPoint.Time = now.Add(-time.Hour)
		m.Health = store.Health{Level: store.Warning, Findings: []store.Finding{{Code: "rpo.breached", Level: string(store.Warning), Since: now.Add(-45 * time.Minute), Cause: "the newest recovery point is older than 15m0s",
			Effect: "a failover now would lose more than agreed", Action: "see what replication waits for, or raise the threshold in the policy"}}}
	case i%97 == 1:
		m.State, m.Failover = lifecycle.CommitPending, &store.Failover{Kind: lifecycle.Unplanned, Point: crowdPoint(now), PointTime: now.Add(-time.Hour), Consistency: replication.CrashConsistent, Started: now.Add(-50 * time.Minute)}
	}
	return m
}

func (c *crowded) shape(i int) hypervisor.Machine {
	return hypervisor.Machine{Ref: hypervisor.Ref("r-" + crowdID(i)), Name: c.name(i), Power: hypervisor.Running, CPUs: 4, MemoryMiB: 8192, OS: "Debian 12", GuestAgent: true, BootID: "3f6c2a58-9a8e-4b9a-9c1e-5d1f0a7c2b11", Started: time.Now().Add(-time.Hour),
		Disks: []hypervisor.Disk{{Key: "vda", Size: 64 << 20, Format: "qcow2", Path: "/var/lib/libvirt/images/" + c.name(i) + ".qcow2", Boot: true}, {Key: "vdb", Size: 200 << 30, Format: "qcow2", Path: "/var/lib/libvirt/images/" + c.name(i) + "-data.qcow2"}},
		NICs:  []hypervisor.NIC{{MAC: "52:54:00:12:34:56", Network: "office"}}, Hardware: map[string]string{"firmware": "uefi", "machine": "pc-q35-7.2", "controller": "virtio-scsi"}}
}

func (c *crowded) job(i int, now time.Time) store.Job {
	m, at := i%c.size.machines, now.Add(-time.Duration(c.size.jobs-i)*5*time.Minute)
	j := store.Job{ID: crowdJob(at, i), Kind: string(lifecycle.TestFailover), Machine: crowdID(m), Name: c.name(m), Actor: "anna", State: store.Succeeded, Created: at, Ended: at.Add(41 * time.Second), Params: map[string]string{}, Data: map[string]string{"point": string(crowdPoint(at))}}
	if i/c.size.machines%2 == 1 {
		j.Kind, j.Params = string(lifecycle.CleanupTest), map[string]string{"notes": "Login page answered."}
	}
	for n, name := range []string{"choose the recovery point", "create the test machine", "start the test machine", "see it boot"} {
		s := store.Step{Name: name, State: store.Succeeded, Started: at.Add(time.Duration(n) * time.Second), Ended: at.Add(time.Duration(n+1) * time.Second), Evidence: []store.Fact{{Name: "console", Value: strings.Repeat("[    1.92] EXT4-fs (vda1): mounted\n", 4)}, {Name: "age", Value: "12s"}}}
		j.Steps = append(j.Steps, s)
	}
	switch {
	case i >= c.size.jobs-60 && !c.size.asleep: // under way
		j.State, j.Ended = store.InProgress, time.Time{}
		j.Steps[3].State, j.Steps[3].Ended, j.Steps[3].Done, j.Steps[3].Total = store.InProgress, time.Time{}, 3<<30, 40<<30
	case i%20 == 3:
		j.State, j.Error = store.Failed, &store.Finding{Code: "boot.silent", Level: string(store.Critical), Cause: "the test machine printed nothing for 90 s", Effect: "nobody has seen it boot", Action: "read its console at the target"}
	}
	return j
}

func (c *crowded) session(i int, now time.Time) store.Session {
	data := fmt.Sprintf(`{"deadline":%q,"values":{"user":"person-%03d@example.com","address":"192.0.2.%d","agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36","began":%q}}`,
		now.Add(11*time.Hour).Format(time.RFC3339), i%c.size.users, i%250, now.Add(-time.Hour).Format(time.RFC3339))
	return store.Session{ID: fmt.Sprintf("%064x", i), Data: []byte(data), Expires: now.Add(29 * time.Minute)}
}

// fillLog writes the log as the daemon does, of several parts about all machines.
func (c *crowded) fillLog(dir string, now time.Time) {
	c.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "riparo.log"))
	if err != nil {
		c.Fatal(err)
	}
	lines := c.size.logBytes / 230
	for i := range lines {
		fmt.Fprintf(f, `{"time":%q,"level":%q,"msg":"recovery point taken","component":%q,"machine":%q,"name":%q,"job":"j-%d","disk":"vda","sequence":%d,"took":"%dms"}`+"\n",
			now.Add(-time.Duration(lines-i)*100*time.Millisecond).Format(time.RFC3339Nano), []string{"INFO", "DEBUG", "WARN", "INFO", "ERROR"}[c.random.IntN(5)], []string{"protection", "jobs", "vault", "console"}[c.random.IntN(4)],
			crowdID(c.random.IntN(c.size.machines)), "srv", i/5000, i, c.random.IntN(900))
	}
	if err := f.Close(); err != nil {
		c.Fatal(err)
	}
}

func crowdPoint(at time.Time) replication.PointID {
	return replication.PointID(at.UTC().Format("20060102T150405.000Z") + "-0a1b2c3d")
}

// fillVault gives each machine its points: the newest half within the last hour. One disk
// belongs to no machine.
func (c *crowded) fillVault() {
	c.Helper()
	ctx, now := c.Context(), time.Now()
	for i := range c.size.machines {
		disk := replication.Disk{ID: replication.DiskID(c.name(i) + ".vda"), Size: 64 << 20}
		if _, err := c.vault.Prepare(ctx, disk, 1); err != nil {
			c.Fatal(err)
		}
		sequence := replication.Sequence(0)
		for n := range c.size.points {
			age := time.Duration(c.size.points-n) * 2 * time.Minute
			if n < c.size.points/2 {
				age = time.Duration(c.size.points-n) * 30 * time.Minute
			}
			sequence++
			block := make([]byte, 4096)
			copy(block, fmt.Sprint(i, n))
			change := replication.Change{Extent: replication.Extent{Offset: int64(n%100) * 4096, Length: 4096}, Data: block}
			if err := c.vault.Write(ctx, replication.Batch{Disk: disk.ID, Epoch: 1, Sequence: sequence, Changes: []replication.Change{change}}); err != nil {
				c.Fatal(err)
			}
			sequence++
			at := now.Add(-age)
			if err := c.vault.Mark(ctx, replication.Mark{Disk: disk.ID, Epoch: 1, Sequence: sequence, Point: crowdPoint(at), Time: at, Size: disk.Size, Members: []replication.DiskID{disk.ID}}); err != nil {
				c.Fatal(err)
			}
		}
	}
	if _, err := c.vault.Prepare(ctx, replication.Disk{ID: "by-hand", Size: 64 << 20}, 1); err != nil {
		c.Fatal(err)
	}
	if kept, err := c.Kept(ctx); err != nil || len(kept) != 1 || kept[0].ID != "by-hand" {
		c.Fatalf("%d are kept, %v: want the disk that was brought by hand", len(kept), err)
	}
}

// place lists the machines of a site: at the first one those that are protected and
// as many again that are not, elsewhere their replicas.
func (c *crowded) place(site string) hypervisor.Provider {
	p := &listing{}
	if site == c.site(0) {
		for i := range 2 * c.size.machines {
			p.machines = append(p.machines, c.shape(i))
		}
		return p
	}
	for i := range 100 {
		m := c.shape(i)
		m.Ref, m.Replica = hypervisor.Ref(fmt.Sprintf("x-%s-%d", site, i)), true
		p.machines = append(p.machines, m)
	}
	return p
}

// listing is a place that lists machines and can do nothing with them.
type listing struct {
	hypervisor.Provider
	machines []hypervisor.Machine
}

func (l *listing) Describe() hypervisor.Description {
	return hypervisor.Description{Kind: "kvm-libvirt"}
}
func (l *listing) Discover(context.Context) ([]hypervisor.Machine, error) {
	return l.machines, nil
}
func (l *listing) Networks(context.Context) ([]hypervisor.Network, error) {
	return []hypervisor.Network{{Name: "office"}, {Name: "bubble", Isolated: true}}, nil
}
func (l *listing) Close() error { return nil }

// unsynced leaves it to the operating system when files reach the disk: making tens of
// thousands of points is not what is measured.
type unsynced struct{ vfs.FS }

func (u unsynced) SyncDir(string) error { return nil }

func (u unsynced) Create(name string) (vfs.File, error) {
	f, err := u.FS.Create(name)
	return unsyncedFile{f}, err
}

func (u unsynced) Open(name string) (vfs.File, error) {
	f, err := u.FS.Open(name)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error { return nil }

// claim makes the administrator, who signs in, and the other accounts.
func (c *crowded) claim() {
	c.Helper()
	if _, err := c.identity.Claim(c.Context(), c.SetupToken, "anna", crowdPassword, "en", "test"); err != nil {
		c.Fatal(err)
	}
	now := time.Now()
	put(c, c.store, (*store.Tx).Users, c.size.users, func(i int) store.User {
		return store.User{Name: fmt.Sprintf("person-%03d@example.com", i), Role: store.Viewer, PasswordHash: "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA", Created: now, LastLogin: now}
	})
	c.cookie = c.signIn("anna")
}

// signIn gives the cookie of a session.
func (c *crowded) signIn(name string) (cookie string) {
	c.Helper()
	r := httptest.NewRequest(http.MethodPost, "https://localhost/login", strings.NewReader("name="+name+"&password="+strings.ReplaceAll(crowdPassword, " ", "+")))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	c.console.ServeHTTP(w, r)
	for _, set := range w.Result().Cookies() {
		cookie = set.Name + "=" + set.Value
	}
	if w.Code != http.StatusSeeOther || cookie == "" {
		c.Fatalf("the sign-in of %s: %d\n%s", name, w.Code, w.Body)
	}
	return cookie
}

// get asks for an address as the administrator's browser does.
func (c *crowded) get(path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "https://localhost"+path, nil)
	r.Header.Set("Cookie", c.cookie)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	c.console.ServeHTTP(w, r)
	return w
}

// replicate moves the newest point of some machines onward, as their cycles do: what
// the console remembers of its records is never up to date by chance.
func (c *crowded) replicate(machines int) {
	c.Helper()
	err := c.store.Update(func(tx *store.Tx) error {
		for range machines {
			m, err := tx.Machines().Get(crowdID(c.random.IntN(c.size.machines)))
			if err != nil {
				return err
			}
			if m.LastPoint.Time = time.Now(); m.Health.Level != store.Healthy {
				continue // it is late, and stays so
			}
			if err := tx.Machines().Put(m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
}
