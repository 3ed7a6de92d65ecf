package appliance_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
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
	t := th.T
	site := th.labSites()
	seen, err := site.AddMachine(lab.Spec{Name: "WEB01", Seed: 1, Churn: 256 << 10, Disks: []lab.DiskSpec{{Key: "vda", Size: 16 << 20, InitialBytes: 16 << 20}}})
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
	for deadline := time.Now().Add(guestLimit); !so(); time.Sleep(20 * time.Millisecond) {
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
		path := filepath.Join(th.data, "vault", "disks", "disk-"+string(th.machine().Disks[0].ID)+".d", "00000001.segment")
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(n) {
			at := info.Size()/16 + i*info.Size()/int64(2*n)
			var b [1]byte
			if _, err := f.ReadAt(b[:], at); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 0x55
			if _, err := f.WriteAt(b[:], at); err != nil {
				t.Fatal(err)
			}
		}
	})
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
