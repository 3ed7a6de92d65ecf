package appliance_test

import (
	"slices"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// keeps disables the protection of the theater's machine, and leaves its points in the vault.
func (th *theater) keeps() api.Kept {
	th.Helper()
	th.until("there are two points", func() bool {
		points, err := th.a.Points(th.Context(), th.id)
		return err == nil && len(points) >= 2
	})
	if list, err := th.a.Kept(th.Context()); err != nil || len(list) != 0 {
		th.Fatalf("kept %+v, %v while the machine is protected", list, err)
	}
	_, err := th.a.Ask(th.Context(), api.Request{Actor: "anna", Person: "anna", Verb: lifecycle.DisableProtection, Machine: th.id, Confirm: "WEB01", KeepPoints: true})
	if err != nil {
		th.Fatal(err)
	}
	var list []api.Kept
	th.until("the machine is not protected any more", func() bool {
		if list, err = th.a.Kept(th.Context()); err != nil {
			th.Fatal(err)
		}
		return len(list) == 1
	})
	return list[0]
}

// TestWhatIsKeptGoesOnlyUnderFourEyes: points that stay in the vault when protection is
// disabled are listed, and are erased when two administrators want it.
func TestWhatIsKeptGoesOnlyUnderFourEyes(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	th.administrators("anna", "ugo")
	anna := api.Who{Name: "anna", Person: "anna"}
	kept := th.keeps()
	if kept.ID != string(th.id) || kept.Name != "WEB01" || kept.By != "anna" || time.Since(kept.Since) > time.Hour || len(kept.Disks) != 1 || kept.Points < 2 || kept.StoredBytes == 0 || !kept.Newest.After(kept.Oldest) {
		t.Errorf("kept %+v", kept)
	}
	explained(t, th.a.EraseKept(t.Context(), anna, "m-nothing", ""), "keeps nothing")
	explained(t, th.a.EraseKept(t.Context(), anna, kept.ID, "web"), "not confirmed")
	for range 2 { // asked for twice, it is one request
		needsApproval(t, th.a.EraseKept(t.Context(), anna, kept.ID, kept.Name))
	}
	r := th.request()
	explained(t, th.a.Approve(t.Context(), "anna", r.ID), "cannot approve")
	if list, err := th.a.Kept(t.Context()); err != nil || len(list) != 1 || list[0].Points != kept.Points {
		t.Fatalf("kept %+v, %v before it was approved", list, err)
	}
	if err := th.a.Approve(t.Context(), "ugo", r.ID); err != nil {
		t.Fatal(err)
	}
	if list, err := th.a.Kept(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("kept %+v, %v after it was erased", list, err)
	}
	if !th.a.Rooms().Vault.Empty() {
		t.Error("the vault still holds a disk")
	}
	if len(th.events("kept.erased")) != 1 {
		t.Error("nobody is told that it was erased")
	}
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
		for k, err := range tx.Kept().All() {
			t.Errorf("record %+v, %v is left", k, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWhatIsKeptAndLockedStays: a lock holds for points of machines that are not protected
// too, whoever wants them away.
func TestWhatIsKeptAndLockedStays(t *testing.T) {
	policy := replication.DefaultPolicy()
	policy.LockFor = time.Hour
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, policy)
	th.administrators("anna", "ugo")
	kept := th.keeps()
	if time.Until(kept.LockedUntil) < 50*time.Minute {
		t.Errorf("kept %+v: want it locked for an hour", kept)
	}
	explained(t, th.a.EraseKept(t.Context(), api.Who{Name: "anna", Person: "anna"}, kept.ID, kept.Name), "locked until")
	if n := len(waiting(t, th)); n != 0 {
		t.Errorf("%d requests wait: a lock is not a matter of approval", n)
	}
}

// TestADiskThatWasBroughtByHandIsListed: the vault may hold disks that never belonged to a
// machine here. They are told by their own name, and a protected machine's are not.
func TestADiskThatWasBroughtByHandIsListed(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	v := th.a.Rooms().Vault
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "by-hand", Size: 1 << 20}, 1); err != nil {
		t.Fatal(err)
	}
	list, err := th.a.Kept(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != "by-hand" || list[0].Name != "by-hand" || list[0].Points != 0 {
		t.Fatalf("kept %+v, %v", list, err)
	}
	machine := th.machine()
	for _, id := range []string{string(machine.ID), string(machine.Disks[0].ID)} {
		explained(t, th.a.EraseKept(t.Context(), api.Who{Name: "anna", Person: "anna"}, id, machine.Name), "keeps nothing")
		explained(t, th.a.EraseKept(t.Context(), api.Who{Name: "anna", Person: "anna"}, id, id), "keeps nothing")
	}
	// There is one administrator at most: it is done, and told loudly.
	if err := th.a.EraseKept(t.Context(), api.Who{Name: "anna", Person: "anna"}, "by-hand", "by-hand"); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(v.Held(), func(d replication.Disk) bool { return d.ID == "by-hand" }) {
		t.Error("the disk is still there")
	}
	if _, err := v.State(machine.Disks[0].ID); err != nil {
		t.Errorf("the protected machine's disk: %v", err)
	}
	if told := th.events("approval.alone"); len(told) != 1 || told[0].Machine != "" {
		t.Errorf("events %+v: want it told once that one person did it alone, and of no machine", told)
	}
	if told := th.events("kept.erased"); len(told) != 1 || told[0].Machine != "" || told[0].Name != "by-hand" {
		t.Errorf("events %+v: want it told once that the disk was erased, and of no machine", told)
	}
}

// TestAMachineThatTheStoreForgotIsListedByItsIdentifier: a store that was restored from
// before it was protected does not know it, and the vault has its points.
func TestAMachineThatTheStoreForgotIsListedByItsIdentifier(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	th.until("there are two points", func() bool {
		points, err := th.a.Points(th.Context(), th.id)
		return err == nil && len(points) >= 2
	})
	th.pauseReplication(func() {
		if err := th.a.Rooms().Store.Update(func(tx *store.Tx) error { return tx.Machines().Delete(string(th.id)) }); err != nil {
			t.Fatal(err)
		}
	})
	list, err := th.a.Kept(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != string(th.id) || list[0].Name != string(th.id) || list[0].Points < 2 || !list[0].Since.IsZero() {
		t.Fatalf("kept %+v, %v: want the machine by its identifier", list, err)
	}
	if err := th.a.EraseKept(t.Context(), api.Who{Name: "anna", Person: "anna"}, string(th.id), string(th.id)); err != nil {
		t.Fatal(err)
	}
	if told := th.events("kept.erased"); len(told) != 1 || told[0].Machine != string(th.id) {
		t.Errorf("events %+v: want it told once, of the machine", told)
	}
	if !th.a.Rooms().Vault.Empty() {
		t.Error("the vault still holds a disk")
	}
}

// TestWhatCameAfterTheRequestIsNotErasedWithIt: two administrators have agreed on what there
// was.
func TestWhatCameAfterTheRequestIsNotErasedWithIt(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	th.administrators("anna", "ugo")
	kept := th.keeps()
	anna := api.Who{Name: "anna", Person: "anna"}
	needsApproval(t, th.a.EraseKept(t.Context(), anna, kept.ID, kept.Name))
	r := th.request()
	if len(r.Disks) != 1 || r.Disks[0] != kept.Disks[0].ID {
		t.Errorf("the request names the disks %v, want %s", r.Disks, kept.Disks[0].ID)
	}
	other := replication.Disk{ID: replication.DiskID(string(th.id) + ".other"), Machine: th.id, Size: 1 << 20}
	if _, err := th.a.Rooms().Vault.Prepare(t.Context(), other, 1); err != nil {
		t.Fatal(err)
	}
	needsApproval(t, th.a.EraseKept(t.Context(), anna, kept.ID, kept.Name))
	if n := len(waiting(t, th)); n != 2 {
		t.Errorf("%d requests wait: want another one for both disks", n)
	}
	explained(t, th.a.Approve(t.Context(), "ugo", r.ID), "other disks")
	if held := th.a.Rooms().Vault.Held(); len(held) != 2 {
		t.Errorf("the vault holds %v, want both disks", held)
	}
	if err := th.a.Approve(t.Context(), "ugo", th.request().ID); err != nil {
		t.Error(err)
	}
	if !th.a.Rooms().Vault.Empty() {
		t.Error("both disks were asked for, and the vault still holds one")
	}
}
