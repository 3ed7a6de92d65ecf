package protection

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vault"
	"riparo/store"
)

// keeping gives a protector whose vault keeps two disks with points of a machine that was
// protected, and that a record knows.
func keeping(t *testing.T) (*Protector, *vault.Vault, []replication.PointID) {
	t.Helper()
	v, s := rooms(t)
	p := New(Config{Store: s, Vault: v, Log: slog.New(slog.DiscardHandler)})
	points := fillDisks(t, v, []replication.DiskID{"m.a", "m.b"}, 4096, 3)
	if err := s.Update(func(tx *store.Tx) error { return tx.Kept().Put(store.Kept{ID: "m", Name: "WEB01", By: "anna"}) }); err != nil {
		t.Fatal(err)
	}
	return p, v, points
}

var both = []replication.DiskID{"m.a", "m.b"}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return replication.AsProblem(err).Code
}

// stays wants that nobody can erase what is kept of the machine, for this reason, and that
// its disks are there.
func stays(t *testing.T, p *Protector, v *vault.Vault, why string) {
	t.Helper()
	if _, err := p.KeptOf("m"); codeOf(err) != why {
		t.Errorf("it can be erased, but for %v: want %s", err, why)
	}
	if err := p.EraseKept(t.Context(), "m", "anna", both); codeOf(err) != why {
		t.Errorf("erasing it: %v, want %s", err, why)
	}
	for _, id := range both {
		if _, err := v.State(id); err != nil {
			t.Errorf("disk %s: %v", id, err)
		}
	}
}

// TestALockOnOneDiskKeepsAll: a cycle that was cut off has locked its point on one of the
// disks only, and the list of the machine's points may be the other's.
func TestALockOnOneDiskKeepsAll(t *testing.T) {
	for _, locked := range both {
		t.Run(string(locked), func(t *testing.T) {
			p, v, points := keeping(t)
			until := v.TrustedTime().Add(time.Hour)
			if err := v.Lock(t.Context(), locked, points[1:2], until); err != nil {
				t.Fatal(err)
			}
			stays(t, p, v, "point.locked")
			k, _ := p.KeptOf("m")
			if k.Locked == nil || k.Locked.ID != points[1] || k.Locked.LockedUntil.Sub(until).Abs() > time.Second {
				t.Errorf("locked %+v, want %s until %s", k.Locked, points[1], until)
			}
			if len(k.Points) != 3 || k.Points[0].ID != points[2] {
				t.Errorf("points %+v, want all three, the newest first", k.Points)
			}
		})
	}
}

// sick is a vault with a disk that could not be opened: it tells the name alone.
type sick struct {
	unreadable
}

func (v sick) Held() []replication.Disk {
	held := v.Vault.Held()
	for i, d := range held {
		if d.ID == v.disk {
			held[i] = replication.Disk{ID: d.ID}
		}
	}
	return held
}

// TestADiskThatNobodyCanReadIsNotErased: nobody knows its locks. It belongs to the machine
// whose name it begins with, where that is known.
func TestADiskThatNobodyCanReadIsNotErased(t *testing.T) {
	p, v, _ := keeping(t)
	for name, broken := range map[string]Vault{"could not be opened": sick{unreadable{v, "m.b"}}, "cannot be listed": unreadable{v, "m.b"}} {
		t.Run(name, func(t *testing.T) {
			p.sink = broken
			stays(t, p, v, "kept.unread")
			list, err := p.Kept()
			if err != nil || len(list) != 1 || list[0].Name() != "WEB01" || !slices.Equal(list[0].DiskIDs(), both) || !slices.Equal(list[0].Unread, []replication.DiskID{"m.b"}) || list[0].Disks[1].Trouble == nil {
				t.Errorf("kept %+v, %v: want one of two disks, one unread", list, err)
			}
			if err := p.store.Update(func(tx *store.Tx) error { return tx.Kept().Delete("m") }); err != nil {
				t.Fatal(err)
			}
			stays(t, p, v, "kept.unread") // the other disk names the machine
			if err := p.store.Update(func(tx *store.Tx) error { return tx.Kept().Put(store.Kept{ID: "m", Name: "WEB01"}) }); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("of a protected machine", func(t *testing.T) {
		p.sink = sick{unreadable{v, "m.b"}}
		if err := p.store.Update(func(tx *store.Tx) error { return tx.Machines().Put(store.Machine{ID: "m", Name: "WEB01"}) }); err != nil {
			t.Fatal(err)
		}
		if list, err := p.Kept(); err != nil || len(list) != 0 {
			t.Errorf("kept %+v, %v: want none of a machine that is protected", list, err)
		}
	})
	t.Run("of nobody", func(t *testing.T) {
		p.sink = sick{unreadable{v, "stray.a"}}
		if _, err := v.Prepare(t.Context(), replication.Disk{ID: "stray.a", Size: 4096}, 1); err != nil {
			t.Fatal(err)
		}
		if k, err := p.KeptOf("stray.a"); codeOf(err) != "kept.unread" || k.Machine != "" {
			t.Errorf("kept %+v, %v", k, err)
		}
	})
}

// TestWhatIsErasedIsWhatWasAskedFor: the disks that were approved, no more and no fewer.
func TestWhatIsErasedIsWhatWasAskedFor(t *testing.T) {
	p, v, _ := keeping(t)
	for _, asked := range [][]replication.DiskID{nil, {"m.a"}, {"m.a", "m.c"}, {"m.a", "m.b", "m.c"}} {
		if err := p.EraseKept(t.Context(), "m", "anna", asked); codeOf(err) != "approval.overtaken" {
			t.Errorf("%v was asked for: %v, want that it is overtaken", asked, err)
		}
	}
	if held := v.Held(); len(held) != 2 {
		t.Fatalf("the vault holds %v", held)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel() // who asked has gone away
	p.sink = unerasable{Vault: v}
	if err := p.EraseKept(over, "m", "anna", []replication.DiskID{"m.b", "m.a"}); err != nil {
		t.Fatal(err)
	}
	if held := v.Held(); len(held) != 0 {
		t.Errorf("the vault still holds %v", held)
	}
	if left := records(t, p); len(left) != 0 {
		t.Errorf("records %v are left", left)
	}
	if _, err := p.KeptOf("m"); codeOf(err) != "kept.unknown" {
		t.Errorf("%v: want that nothing is kept", err)
	}
}

// TestADiskWithTheNameOfAMachineIsItsOwn: what was brought by hand is not the machine's.
func TestADiskWithTheNameOfAMachineIsItsOwn(t *testing.T) {
	var told []string
	p, v, _ := keeping(t)
	p.changed = func(what string) { told = append(told, what) }
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "m", Size: 4096}, 1); err != nil {
		t.Fatal(err)
	}
	list, err := p.Kept()
	if err != nil || len(list) != 2 || list[0].Machine != "m" || len(list[0].Disks) != 2 || list[1].Machine != "" || list[1].Record.Name != "" {
		t.Fatalf("kept %+v, %v: want the machine, and the disk", list, err)
	}
	if err := p.EraseKept(t.Context(), "m", "anna", []replication.DiskID{"m"}); codeOf(err) != "approval.overtaken" {
		t.Errorf("the disk while the machine's are there: %v", err)
	}
	if err := p.EraseKept(t.Context(), "m", "anna", both); err != nil {
		t.Fatal(err)
	}
	if len(told) > 0 {
		t.Errorf("%q is told beside the store", told)
	}
	if err := p.EraseKept(t.Context(), "m", "anna", []replication.DiskID{"m"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []string{"kept/m"}) {
		t.Errorf("told %q, want that what has no record changed", told)
	}
	events := erasures(t, p)
	if len(events) != 2 || events[0].Machine != "m" || events[1].Machine != "" || events[1].Name != "m" {
		t.Errorf("events %+v: want one of the machine, and one of the disk", events)
	}
}

// unerasable is a vault of which one disk cannot be erased, and none for who has gone away.
type unerasable struct {
	Vault
	disk replication.DiskID
}

func (v unerasable) Erase(ctx context.Context, id replication.DiskID) error {
	if id == v.disk {
		return errors.New("the disk is read-only")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.Vault.Erase(ctx, id)
}

// TestAnEraseThatFailsHalfWaySaysSo, and goes on when it is asked for again. Nothing is told
// of one that did not begin.
func TestAnEraseThatFailsHalfWaySaysSo(t *testing.T) {
	p, v, _ := keeping(t)
	p.sink = unerasable{v, "m.a"}
	if err := p.EraseKept(t.Context(), "m", "anna", both); err == nil {
		t.Error("nobody is told that nothing went")
	}
	if events := erasures(t, p); len(events) != 0 {
		t.Errorf("events %+v", events)
	}
	p.sink = unerasable{v, "m.b"}
	if err := p.EraseKept(t.Context(), "m", "anna", both); err == nil {
		t.Error("nobody is told that one disk stayed")
	}
	if events := erasures(t, p); len(events) != 1 || events[0].Text != "what the vault kept of WEB01 was erased by anna in part: 1 of 2 disks" {
		t.Errorf("events %+v", events)
	}
	if left := records(t, p); len(left) != 1 {
		t.Errorf("records %v: want that of what stayed", left)
	}
	p.sink = v
	if err := p.EraseKept(t.Context(), "m", "anna", both[1:]); err != nil {
		t.Error(err)
	}
	if left := records(t, p); len(left) != 0 {
		t.Errorf("records %v are left", left)
	}
}

// TestAnEraseThatWasCutOffIsForgottenAtTheStart: of what is not there any more no record
// stays, and of what cannot be read it does.
func TestAnEraseThatWasCutOffIsForgottenAtTheStart(t *testing.T) {
	p, v, _ := keeping(t)
	for _, id := range both {
		p.sink = sick{unreadable{v, "m.b"}}
		if err := p.forgetErased(); err != nil || len(records(t, p)) != 1 {
			t.Errorf("%v, records %v: want it kept while there is a disk", err, records(t, p))
		}
		if err := v.Erase(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left := records(t, p); len(left) != 0 {
		t.Errorf("records %v are left", left)
	}
}

func records(t *testing.T, p *Protector) (list []store.Kept) {
	t.Helper()
	all, err := p.keptRecords()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		list = append(list, k)
	}
	return list
}

// erasures are the events of what was erased, oldest first.
func erasures(t *testing.T, p *Protector) (list []store.Event) {
	t.Helper()
	err := p.store.View(func(tx *store.Tx) error {
		for e, err := range tx.Events().All() {
			if err != nil {
				return err
			}
			if e.Code == "kept.erased" {
				list = append(list, e)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
