package appliance_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// A disk is filled from an image that somebody brought, and only what the machine wrote
// since is sent; the image may be gone then.
func TestADiskIsFilledFromAnImageThatWasBrought(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	site := th.labSites()
	const size = 16 << 20
	seen, err := site.AddMachine(lab.Spec{Name: "WEB01", Seed: 1, Churn: 256 << 10, Disks: []lab.DiskSpec{{Key: "vda", Size: size, InitialBytes: size}}})
	if err != nil {
		t.Fatal(err)
	}
	// The image is made while the machine stands still, then the machine works on.
	folder := filepath.Join(th.data, "seeds")
	image := filepath.Join(folder, "web01-vda.raw")
	if err := os.WriteFile(image, th.diskNow(site, seen.Ref), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "short.raw"), make([]byte, size-1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := site.Start(t.Context(), seen.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	ask := func(seeded map[string]string) (replication.MachineID, string, error) {
		return th.a.Protect(t.Context(), api.ProtectRequest{Actor: "test", Site: th.primary, Ref: seen.Ref, Target: th.secondary,
			Policy: replication.DefaultPolicy().Name, Seeded: seeded})
	}
	for code, seeded := range map[string]map[string]string{
		"disk.unknown":  {"vdb": "web01-vda.raw"},
		"seed.size":     {"vda": "short.raw"},
		"seed.name":     {"vda": "../state.db"},
		"image.missing": {"vda": "none.raw"},
	} {
		if _, _, err := ask(seeded); replication.AsProblem(err) == nil || replication.AsProblem(err).Code != code {
			t.Errorf("%v: %v, want %s", seeded, err, code)
		}
	}
	id, job, err := ask(map[string]string{"vda": "web01-vda.raw"})
	if err != nil {
		t.Fatal(err)
	}
	th.id = id
	ended := th.job(job)
	if seed := th.machine().Disks[0].Seed; seed != "" {
		t.Errorf("the image %s is still wanted", seed)
	}
	fact := ""
	for _, step := range ended.Steps {
		fact = cmp.Or(evidence(store.Job{Steps: []store.Step{step}}, "vda"), fact) // of the last one that has it
	}
	var compared, read, changed, sent int64
	if _, err := fmt.Sscanf(fact, "full: compared %d, read %d, changed %d, sent %d bytes", &compared, &read, &changed, &sent); err != nil {
		t.Fatalf("the job says %q: %v", fact, err)
	}
	if compared != size || sent > size/2 {
		t.Errorf("%d bytes were compared and %d sent, want all %d compared and little sent", compared, sent, size)
	}
	if said := evidence(ended, "seed of vda"); said == "" {
		t.Error("the job does not say that the disk was filled from an image")
	}
	th.judged("WEB01", replication.PointID(evidence(ended, "recovery point")))
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
}

// diskNow reads the disk of a machine that stands still.
func (th *theater) diskNow(site *lab.Site, ref hypervisor.Ref) []byte {
	th.Helper()
	capture, err := site.BeginPoint(th.Context(), hypervisor.PointRequest{Ref: ref, Point: "image", Disks: []string{"vda"}})
	if err != nil {
		th.Fatal(err)
	}
	p := make([]byte, capture.Disks()[0].Size())
	if _, err := capture.Disks()[0].ReadAt(p, 0); err != nil {
		th.Fatal(err)
	}
	if err := capture.Rollback(th.Context()); err != nil {
		th.Fatal(err)
	}
	return p
}
