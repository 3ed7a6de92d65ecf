package appliance

import (
	"context"
	"fmt"
	"slices"

	"riparo/appliance/protection"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// Kept lists what the vault keeps of machines that are not protected.
func (a *Appliance) Kept(context.Context) ([]api.Kept, error) {
	kept, err := a.protect.Kept()
	list := make([]api.Kept, 0, len(kept))
	for _, k := range kept {
		list = append(list, told(k))
	}
	return list, err
}

func told(k protection.Kept) api.Kept {
	t := api.Kept{ID: k.ID, Name: k.Name(), Since: k.Record.Since, By: k.Record.By, Disks: make([]api.KeptDisk, 0, len(k.Disks)), Points: len(k.Points)}
	for _, d := range k.Disks {
		disk := api.KeptDisk{ID: d.Disk.ID, Size: d.Disk.Size, StoredBytes: d.StoredBytes, Unread: slices.Contains(k.Unread, d.Disk.ID)}
		if d.Trouble != nil {
			disk.Trouble = d.Trouble.Error()
		}
		t.Disks = append(t.Disks, disk)
		t.StoredBytes += d.StoredBytes
	}
	for _, p := range k.Points {
		if p.Pinned {
			t.Pinned++
		}
	}
	if k.Locked != nil {
		t.LockedUntil = k.Locked.LockedUntil
	}
	if n := len(k.Points); n > 0 {
		t.Newest, t.Oldest = k.Points[0].Time, k.Points[n-1].Time
	}
	return t
}

// EraseKept erases what the vault keeps of a machine that is not protected. It always takes
// four eyes: that these points stay is what somebody had decided.
func (a *Appliance) EraseKept(ctx context.Context, who api.Who, id, confirm string) error {
	k, err := a.protect.KeptOf(id)
	if err != nil {
		return err
	}
	if confirm != k.Name() {
		return &replication.Problem{Code: "confirm.missing", Cause: fmt.Sprintf("erasing what is kept of %s was not confirmed", k.Name()), Effect: "nothing was changed",
			Action: fmt.Sprintf("repeat the machine's name, %q, as confirmation", k.Name()), Remedy: replication.Stop}
	}
	if err := a.fourEyes(who.Person, store.Approval{Kind: approveErase, Machine: k.Machine, Name: k.Name(), Disks: k.DiskIDs(),
		Text: fmt.Sprintf("erase what the vault keeps of %s: %d disks with %d recovery points", k.Name(), len(k.Disks), len(k.Points))}); err != nil {
		return err
	}
	return a.protect.EraseKept(ctx, id, who.Name, k.DiskIDs())
}
