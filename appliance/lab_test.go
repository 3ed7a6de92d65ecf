package appliance_test

import (
	"path/filepath"
	"testing"

	"riparo/hypervisor"
	"riparo/store"
)

// Who tries Riparo out finds machines in the lab, at work, and no site is furnished
// twice.
func TestALabSiteHasMachinesToTry(t *testing.T) {
	th := &theater{T: t}
	th.start(filepath.Join(t.TempDir(), "data"))
	add := func(name, address string) error {
		return th.a.AddSite(t.Context(), "test", store.Site{Name: name, Kind: "lab", Address: address})
	}
	machines := func(site string) map[string]hypervisor.Power {
		t.Helper()
		list, err := th.provider(site).Discover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]hypervisor.Power{}
		for _, m := range list {
			names[m.Name] = m.Power
		}
		return names
	}
	for _, c := range []struct{ site, address string }{{"milano", "4"}, {"torino", "0"}, {"genova", "1"}} {
		if err := add(c.site, c.address); err != nil {
			t.Fatal(err)
		}
	}
	for site, want := range map[string][]string{"milano": {"WEB01", "SQL01", "ERP01", "WEB02"}, "torino": nil, "genova": {"SQL02"}} {
		got := machines(site)
		if len(got) != len(want) {
			t.Errorf("%s: got %v, want %v", site, got, want)
		}
		for _, name := range want {
			if got[name] != hypervisor.Running {
				t.Errorf("%s: machine %s is %q, want it running", site, name, got[name])
			}
		}
	}
	explained(t, add("milano", "9"), "milano")
	if got := machines("milano"); len(got) != 4 {
		t.Errorf("a site that was refused got machines: %v", got)
	}
	explained(t, add("roma", "some"), "some")
	explained(t, add("roma", "-1"), "-1")
}
