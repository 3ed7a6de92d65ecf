package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

func TestASeedIsADiskAndAFile(t *testing.T) {
	for word, want := range map[string]string{
		"nonsense": "want DISK=FILE", "=file.raw": "want DISK=FILE", "vda=": "want DISK=FILE", "": "want DISK=FILE",
		"vdb=again.raw": "disk vdb is filled from there.raw already",
	} {
		status, out, errs := call(t.Context(), "protect", "--site", "a", "--machine", "m", "--target", "b", "--seeded", "vdb=there.raw", "--seeded", word)
		if status != 2 || out != "" || !strings.Contains(errs, want) || strings.Contains(errs, "key=value") {
			t.Errorf("--seeded %q: status %d, %q; want 2 and %q", word, status, errs, want)
		}
	}
	var s seeds
	for _, word := range []string{"vdb=b=c.raw", "vda=a, b.raw"} {
		if err := s.Set(word); err != nil {
			t.Errorf("%q: %v", word, err)
		}
	}
	if got := s.String(); got != "vda=a, b.raw,vdb=b=c.raw" {
		t.Errorf("got %q", got)
	}
}

// A machine is protected over a thin link: an image of its disk is brought, and only what
// it wrote since is sent.
func TestProtectFillsADiskFromAnImageThatWasBrought(t *testing.T) {
	t.Parallel() // it waits most of the time
	d := claimed(t)
	const size = 16 << 20
	site := d.site(t, "milano")
	m, err := site.AddMachine(lab.Spec{Name: "WEB01", Seed: 1, Churn: 64 << 10, Disks: []lab.DiskSpec{
		{Key: "vda", Size: size, InitialBytes: size}, {Key: "vdb", Size: size, InitialBytes: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	capture, err := site.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: m.Ref, Point: "image", Disks: []string{"vda"}})
	if err != nil {
		t.Fatal(err)
	}
	image := make([]byte, size)
	if _, err := capture.Disks()[0].ReadAt(image, 0); err != nil {
		t.Fatal(err)
	}
	if err := capture.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(d.data, "seeds", "web01 vda.raw"), image)
	if err := site.Start(t.Context(), m.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	protect := func(seeded string) []string {
		return d.at("protect", "--site", "milano", "--machine", "WEB01", "--target", "torino", "--policy", "quick", "--wait", "--seeded", seeded)
	}
	if status, _, errs := call(t.Context(), protect("vda=other.raw")...); status != 1 || !strings.Contains(errs, "other.raw") {
		t.Errorf("an image that is not there: status %d, %s", status, errs)
	}
	a := must[asked](t, protect("vda=web01 vda.raw")...)
	if a.State != store.Succeeded {
		t.Fatalf("%+v", a)
	}
	if err := os.Remove(filepath.Join(d.data, "seeds", "web01 vda.raw")); err != nil {
		t.Fatal(err) // nobody needs it any more
	}
	shown := must[api.Machine](t, d.at("machines", "show", "WEB01")...)
	if shown.State != lifecycle.Protected {
		t.Errorf("the machine is %s", shown.State)
	}
	facts := map[string]string{}
	for _, step := range must[struct{ Jobs []store.Job }](t, d.at("jobs", "--limit", "1")...).Jobs[0].Steps {
		for _, f := range step.Evidence {
			facts[f.Name] = f.Value
		}
	}
	var compared, read, changed, sent int64
	if _, err := fmt.Sscanf(facts["vda"], "full: compared %d, read %d, changed %d, sent %d bytes", &compared, &read, &changed, &sent); err != nil {
		t.Fatalf("the job says %q of vda: %v", facts["vda"], err)
	}
	if compared != size || sent > size/4 {
		t.Errorf("%d bytes of vda were compared and %d sent, want all %d compared and little sent", compared, sent, size)
	}
	if strings.Contains(facts["vdb"], fmt.Sprintf("compared %d", size)) {
		t.Errorf("the job says %q of vdb, which nobody brought", facts["vdb"])
	}
	world, err := d.Lab()
	if err != nil {
		t.Fatal(err)
	}
	record, err := world.Record("WEB01")
	if err != nil {
		t.Fatal(err)
	}
	disks := map[string]replication.Source{}
	for _, key := range []string{"vda", "vdb"} {
		w, err := d.Rooms().Vault.View(t.Context(), replication.DiskID(string(a.Machine)+"."+key), replication.PointID(facts["recovery point"]))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		disks[key] = w
	}
	if verdict, err := record.Judge(t.Context(), disks); err != nil || !verdict.OK {
		t.Errorf("the recovery point is not the machine: %v, %s", err, verdict.Why)
	}
}
