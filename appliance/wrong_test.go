package appliance_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/libvirt"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// What cannot be reached or is not there is refused with what happened, what that
// means and what to do. The command line's own table is in cmd/riparo.
func TestWhatCannotBeReachedIsExplained(t *testing.T) {
	th := &theater{T: t}
	dir := t.TempDir()
	th.start(filepath.Join(dir, "data"))
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		site store.Site
		says string
	}{
		{"libvirt does not run", store.Site{Name: "a", Kind: libvirt.Kind, Address: "qemu:///session?socket=" + filepath.Join(dir, "none")}, "none"},
		{"libvirt address is none", store.Site{Name: "a", Kind: libvirt.Kind, Address: "vbox:///session"}, "vbox"},
		{"folder of machines is missing", store.Site{Name: "a", Kind: kvm.Kind, Address: filepath.Join(dir, "missing")}, "missing"},
		{"folder of machines is a file", store.Site{Name: "a", Kind: kvm.Kind, Address: file}, "file"},
		{"kind is unknown", store.Site{Name: "a", Kind: "vmware", Address: "vc01"}, "vmware"},
		{"name is missing", store.Site{Kind: "lab"}, "name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			explained(t, th.a.AddSite(t.Context(), "test", c.site), c.says)
		})
	}
	t.Run("a site to remove is unknown", func(t *testing.T) {
		explained(t, th.a.RemoveSite(t.Context(), "test", "nowhere"), "nowhere")
	})
	t.Run("the data folder is in use", func(t *testing.T) {
		_, err := openAppliance(t, filepath.Join(dir, "data"), nil)
		explained(t, err, "another riparo daemon")
	})
	t.Run("the data folder cannot be made", func(t *testing.T) {
		_, err := openAppliance(t, filepath.Join(file, "below"), nil)
		explained(t, err, "data folder")
	})
}

// Two names for one place would end each other's captures.
func TestAPlaceIsOneSite(t *testing.T) {
	th := &theater{T: t}
	dir := t.TempDir()
	th.start(filepath.Join(dir, "data"))
	folder, link := filepath.Join(dir, "machines"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Symlink(folder, link)); err != nil {
		t.Fatal(err)
	}
	const host = "qemu+tls://kvm3/system"
	for _, s := range []store.Site{{Name: "milano", Kind: kvm.Kind, Address: folder}, {Name: "torino", Kind: libvirt.Kind, Address: host}} {
		if err := store.Put(th.a.Rooms().Store, store.Sites, s); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []store.Site{
		{Name: "a", Kind: kvm.Kind, Address: folder},
		{Name: "a", Kind: kvm.Kind, Address: link},
		{Name: "a", Kind: libvirt.Kind, Address: host},
	} {
		explained(t, th.a.AddSite(t.Context(), "test", s), s.Address+" is the place of site")
	}
	for _, name := range []string{"bari", "roma"} {
		if err := th.a.AddSite(t.Context(), "test", store.Site{Name: name, Kind: "lab"}); err != nil {
			t.Errorf("each site of the lab is a place of its own: %v", err)
		}
	}
}

func explained(t *testing.T, err error, says string) {
	t.Helper()
	p, ok := errors.AsType[*replication.Problem](err)
	if !ok {
		t.Fatalf("got %v, want a problem with cause and remedy", err)
	}
	t.Logf("%s: %v", p.Code, p)
	if p.Action == "" || !strings.Contains(p.Error(), says) {
		t.Errorf("got %q, want it to name %q and to say what to do", p, says)
	}
}

// A guest that cannot be frozen gets a crash-consistent point, labeled so, and
// somebody is told why.
func TestAPointThatCouldNotBeAppConsistentSaysSo(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.start(t.TempDir())
	site := th.labSites()
	seen, err := site.AddMachine(lab.Spec{Name: "WEB01", Seed: 1, Churn: 64 << 10, Disks: []lab.DiskSpec{{Key: "vda", Size: 16 << 20, InitialBytes: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Start(t.Context(), seen.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := site.FailFreeze(seen.Ref, true); err != nil {
		t.Fatal(err)
	}
	id, job, err := th.a.Protect(t.Context(), api.ProtectRequest{Actor: "test", Site: th.primary, Ref: seen.Ref, Target: th.secondary})
	if err != nil {
		t.Fatal(err)
	}
	th.id = id
	th.job(job)
	var told store.Event
	for deadline := time.Now().Add(guestLimit); told.Code == "" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
			for e, err := range tx.Events().All() {
				if err != nil {
					return err
				}
				if e.Code == "app-consistency.missed" {
					told = e
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if told.Text == "" || told.Machine != string(id) {
		t.Fatalf("got event %+v, want one that says why the point of %s is not application-consistent", told, id)
	}
	t.Logf("told: %s", told.Text)
	points, err := th.a.Points(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		if p.Consistency != replication.CrashConsistent {
			t.Errorf("point %s is labeled %s-consistent, and no guest could be frozen", p.ID, p.Consistency)
		}
	}
}
