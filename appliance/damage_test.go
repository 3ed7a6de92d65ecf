package appliance_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/vault"
	"riparo/store"
	"riparo/web/api"
)

// labbed is an appliance with a running lab machine that is protected every 5 s.
func labbed(t *testing.T, c appliance.Config, policy replication.Policy) (*theater, *lab.Site) {
	t.Helper()
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(c)
	return th, th.furnish(policy)
}

// labSites adds both sites, and gives the primary one.
func (th *theater) labSites() *lab.Site {
	th.Helper()
	for _, site := range []string{th.primary, th.secondary} {
		if err := th.a.AddSite(th.Context(), "test", store.Site{Name: site, Kind: "lab"}); err != nil {
			th.Fatal(err)
		}
	}
	world, err := th.a.Lab()
	if err != nil {
		th.Fatal(err)
	}
	site, err := world.Site(th.primary)
	if err != nil {
		th.Fatal(err)
	}
	return site
}

// furnish gives an appliance a running lab machine that is protected every 5 s.
func (th *theater) furnish(policy replication.Policy) *lab.Site {
	th.Helper()
	return th.furnishWith(policy, 16<<20, 256<<10)
}

// furnishWith does so with a disk of so many bytes, of which the machine writes so many a
// second.
func (th *theater) furnishWith(policy replication.Policy, size, churn int64) *lab.Site {
	th.Helper()
	t := th.T
	site := th.labSites()
	seen, err := site.AddMachine(lab.Spec{Name: "WEB01", Seed: 1, Churn: churn, Disks: []lab.DiskSpec{{Key: "vda", Size: size, InitialBytes: size}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Start(t.Context(), seen.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	th.ref = seen.Ref
	policy.Name, policy.CopyFrequency, policy.AppConsistentFrequency = "quick", replication.MinCopyFrequency, 0
	if err := th.a.SavePolicy(t.Context(), api.Who{Name: "test"}, policy); err != nil {
		t.Fatal(err)
	}
	id, job, err := th.a.Protect(t.Context(), api.ProtectRequest{Actor: "test", Site: th.primary, Ref: seen.Ref, Target: th.secondary, Policy: policy.Name})
	if err != nil {
		t.Fatal(err)
	}
	th.id = id
	th.job(job)
	return site
}

// until polls until something is so.
func (th *theater) until(what string, so func() bool) {
	th.Helper()
	th.within(guestLimit, what, so)
}

// soon is what the appliance looks at every 2 s or less takes at most, on a busy machine.
const soon = 30 * time.Second

// within polls until something is so, which has to be within a limit.
func (th *theater) within(limit time.Duration, what string, so func() bool) {
	th.Helper()
	for deadline := time.Now().Add(limit); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			th.Fatalf("it did not come about that %s; health %+v", what, th.machine().Health)
		}
	}
}

// events are those of a code, oldest first.
func (th *theater) events(code string) (list []store.Event) {
	th.Helper()
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
		for e, err := range tx.Events().All() {
			if err != nil {
				return err
			}
			if e.Code == code {
				list = append(list, e)
			}
		}
		return nil
	})
	if err != nil {
		th.Fatal(err)
	}
	return list
}

func (th *theater) finding(code string) *store.Finding {
	for _, f := range th.machine().Health.Findings {
		if f.Code == code {
			return &f
		}
	}
	return nil
}

// content reads the first disk of a point.
func (th *theater) content(id replication.PointID) (_ []byte, err error) {
	w, err := th.a.Rooms().Vault.View(th.Context(), th.machine().Disks[0].ID, id)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	p := make([]byte, w.Size())
	_, err = w.ReadAt(p, 0)
	if err == io.EOF {
		err = nil
	}
	return p, err
}

// TestTheScrubFindsRotAndTheSourceHealsIt: bytes of the replica of a running machine
// rot. The scrub finds it, the points are quarantined, health says so; the next cycle
// heals what the source still has, and then every point reads right again or is named.
func TestTheScrubFindsRotAndTheSourceHealsIt(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir(), Scrub: vault.ScrubOptions{Within: time.Second}}, replication.DefaultPolicy())
	th.until("there are three points", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		return err == nil && len(points) >= 3
	})
	points, err := th.a.Points(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	before := map[replication.PointID][]byte{}
	for _, p := range points {
		if before[p.ID], err = th.content(p.ID); err != nil {
			t.Fatal(err)
		}
	}
	rot(t, th, 6)
	th.until("health says that the vault is damaged", func() bool { return th.finding("vault.damaged") != nil || len(th.events("vault.healed")) > 0 })
	th.until("it was healed", func() bool { return len(th.events("vault.healed")) > 0 })
	raised := th.events("vault.damaged")
	if len(raised) == 0 || raised[0].Machine != string(th.id) || raised[0].Action == "" || raised[0].Severity != store.SeverityCritical {
		t.Errorf("events %+v, want one that says what is damaged and what to do", raised)
	}
	for _, e := range append(th.events("vault.damaged"), append(th.events("vault.healed"), th.events("vault.not-healed")...)...) {
		t.Logf("%s: %s", e.Code, e.Text)
	}
	// What cannot be healed is known by now: no point reads wrong in silence.
	th.until("every point is right or named", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for _, p := range points {
			want := before[p.ID] // nil for points that came later
			got, err := th.content(p.ID)
			switch {
			case err == nil && want != nil && !bytes.Equal(got, want):
				t.Fatalf("point %s reads wrong, and nobody says so", p.ID)
			case err != nil && len(p.Damage) == 0:
				return false
			case err != nil && !strings.Contains(err.Error(), "extent ["):
				t.Fatalf("point %s: %v does not say where", p.ID, err)
			case err == nil && len(p.Damage) == 0:
				whole++
			}
		}
		return whole > 0
	})
	latest, err := th.a.Rooms().Protection.Choose(th.machine(), "")
	if err != nil || len(latest.Damage) > 0 {
		t.Errorf("the latest is %+v, %v; want a whole one", latest, err)
	}
	th.judged("WEB01", latest.ID)
	// What is left goes with the points that need it, and health with it.
	all, err := th.a.Points(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	var gone []replication.PointID
	for _, p := range all {
		if len(p.Damage) > 0 {
			gone = append(gone, p.ID)
		}
	}
	if err := th.a.Rooms().Vault.Drop(t.Context(), th.machine().Disks[0].ID, gone); err != nil {
		t.Fatal(err)
	}
	th.until("health is well again", func() bool { return th.finding("vault.damaged") == nil })
	if len(th.events("vault.whole")) == 0 {
		t.Error("nobody was told that no damage is left")
	}
}

// rot flips a byte in each of n blocks of the first segment, spread over it.
func rot(t *testing.T, th *theater, n int) {
	t.Helper()
	th.pauseReplication(func() {
		size := th.segmentBytes()
		for i := range int64(n) {
			th.flip(size/16 + i*size/int64(2*n))
		}
	})
}

// segment opens the first segment of the machine's disk.
func (th *theater) segment() *os.File {
	th.Helper()
	f, err := os.OpenFile(filepath.Join(th.data, "vault", "disks", "disk-"+string(th.machine().Disks[0].ID)+".d", "00000001.segment"), os.O_RDWR, 0)
	if err != nil {
		th.Fatal(err)
	}
	return f
}

// segmentBytes is how long it is.
func (th *theater) segmentBytes() int64 {
	th.Helper()
	f := th.segment()
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		th.Fatal(err)
	}
	return info.Size()
}

// flip changes a byte of it.
func (th *theater) flip(at int64) {
	th.Helper()
	f := th.segment()
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		th.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b[:], at); err != nil {
		th.Fatal(err)
	}
}

// TestADamagedPointIsNamedAndNotOfferedAsTheLatest: what only the newest point needs
// rots. Once the scrub has come by, that point and no other is marked, the one before it
// is the latest, and it is what a failover would take.
func TestADamagedPointIsNamedAndNotOfferedAsTheLatest(t *testing.T) {
	th, site := labbed(t, appliance.Config{Data: t.TempDir(), Scrub: vault.ScrubOptions{Within: time.Second}}, replication.DefaultPolicy())
	points := func() []replication.RecoveryPoint {
		list, err := th.a.Points(t.Context(), th.id)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	th.until("there are two points", func() bool { return len(points()) >= 2 })
	protection := th.a.Rooms().Protection
	release, err := protection.Hold(t.Context(), th.id) // no cycle adds a point or heals one
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := site.Encrypt(t.Context(), th.ref, "vda", replication.Extent{Offset: 4 << 20, Length: 2 << 20}); err != nil { // noise, which fills the log
		t.Fatal(err)
	}
	f := th.segment()
	defer f.Close()
	filled := func() int64 { // the segment is longer than what is in it
		p, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
		if err != nil {
			t.Fatal(err)
		}
		return int64(len(bytes.TrimRight(p, "\x00")))
	}
	from := filled()
	newest, _, err := protection.TakePoint(t.Context(), th.id, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	length := filled() - from
	if length < 2<<20 {
		t.Fatalf("the point %s took %d bytes of the first segment, want the 2 MiB that were encrypted", newest.ID, length)
	}
	for i := range int64(8) {
		th.flip(from + length/16 + i*length/10)
	}
	th.until("health says that the vault is damaged", func() bool { return th.finding("vault.damaged") != nil })
	whole := replication.PointID("")
	for i, p := range points() {
		marked := len(p.Damage) > 0 // before anybody reads it
		if _, err := th.content(p.ID); marked != (err != nil) || marked != (i == 0) {
			t.Errorf("point %s, number %d from the newest: damage %+v, reading gives %v; want the newest damaged and marked, and no other", p.ID, i, p.Damage, err)
		}
		for _, d := range p.Damage {
			if d.Disk != th.machine().Disks[0].ID || d.Length <= 0 || d.Offset < 0 || d.Offset+d.Length > 16<<20 {
				t.Errorf("point %s: damage %+v is no place of its disk", p.ID, d)
			}
		}
		if i == 1 {
			whole = p.ID
		}
	}
	latest, err := protection.Choose(th.machine(), "")
	if err != nil || latest.ID != whole {
		t.Errorf("the latest is %s, %v; want %s, the newest that is whole", latest.ID, err, whole)
	}
	if asked, err := protection.Choose(th.machine(), newest.ID); err != nil || asked.ID != newest.ID {
		t.Errorf("who asks for the damaged point by its name gets %s, %v", asked.ID, err)
	}
	if t.Failed() {
		return
	}
	// Now rot what the first copy of the disk brought, which all points need.
	for i := range int64(6) {
		th.flip(1<<20 + i<<21)
	}
	th.within(soon, "every point is marked", func() bool {
		return !slices.ContainsFunc(points(), func(p replication.RecoveryPoint) bool { return len(p.Damage) == 0 })
	})
	for _, p := range points() {
		if _, err := th.content(p.ID); err == nil {
			t.Errorf("point %s is marked as damaged, %+v, and reads well", p.ID, p.Damage)
		}
	}
	_, err = protection.Choose(th.machine(), "")
	explained(t, err, "damaged in the vault")
}

// pauseReplication does something while no cycle writes.
func (th *theater) pauseReplication(do func()) {
	th.Helper()
	release, err := th.a.Rooms().Protection.Hold(context.Background(), th.id)
	if err != nil {
		th.Fatal(err)
	}
	defer release()
	do()
}
