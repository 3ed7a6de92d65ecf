package appliance

import (
	"testing"

	"riparo/hypervisor/lab"
)

// TestALabSiteStaysOpenWhileAnotherConnectionCloses: a connection that is only tried, or
// comes second, is closed again; the machines of the site go on writing.
func TestALabSiteStaysOpenWhileAnotherConnectionCloses(t *testing.T) {
	a := &Appliance{config: Config{Data: t.TempDir()}, labRuns: map[string]bool{}, labSites: make(chan *lab.Site, maxLabSites)}
	tried, err := a.openLab("milano")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.lab.Close(); err != nil {
			t.Error(err)
		}
	}()
	used, err := a.openLab("milano")
	if err != nil {
		t.Fatal(err)
	}
	if err := tried.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := used.Discover(t.Context()); err != nil {
		t.Errorf("after the connection that was tried closed: %v", err)
	}
	if err := used.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := a.openLab("milano")
	if err != nil {
		t.Fatal(err)
	}
	// The site whose workloads run is the one that everybody sees.
	running := <-a.labSites
	if _, err := running.AddMachine(lab.Spec{Name: "WEB01", Seed: 1, Disks: []lab.DiskSpec{{Key: "vda", Size: 64 << 20}}}); err != nil {
		t.Fatal(err)
	}
	if there, err := again.Discover(t.Context()); err != nil || len(there) != 1 {
		t.Errorf("the site that was opened again shows %d machines, %v; want the one of the site that runs", len(there), err)
	}
	if n := len(a.labSites); n != 0 {
		t.Errorf("%d more sites wait to run, want none", n)
	}
}
