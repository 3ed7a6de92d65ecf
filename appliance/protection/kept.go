package protection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"riparo/replication"
	"riparo/replication/vault"
	"riparo/store"
)

// eraseLimit bounds how long it takes to erase what is kept of one machine, which no cancel
// ends: keys and files of some disks, behind what others write.
const eraseLimit = 10 * time.Minute

// Kept are the disks in the vault that belong to no protected machine: those of a machine
// whose protection was disabled and whose points were to stay, of one that a restored store
// does not know, or a disk that was brought by hand.
type Kept struct {
	// ID is the machine's identifier, or the disk's where it never belonged to one. If a disk
	// that was brought by hand has the name of a machine, the one that is listed first is meant
	// by it, until that is erased.
	ID      string
	Machine replication.MachineID // empty where it is not known to have belonged to one
	Record  store.Kept            // the zero value where nobody disabled its protection here
	Disks   []vault.DiskInfo
	Unread  []replication.DiskID        // those among Disks whose points nobody can list
	Points  []replication.RecoveryPoint // newest first
	// Locked is the point that is locked for the longest, or nil. A cycle locks disk by disk,
	// and one that was cut off has locked a point on some of its disks only: it is that of all
	// disks' own lists.
	Locked *replication.RecoveryPoint
}

// Name is what people call it.
func (k Kept) Name() string { return cmp.Or(k.Record.Name, k.ID) }

// DiskIDs are the names of its disks, sorted.
func (k Kept) DiskIDs() []replication.DiskID {
	ids := make([]replication.DiskID, 0, len(k.Disks))
	for _, d := range k.Disks {
		ids = append(ids, d.Disk.ID)
	}
	slices.Sort(ids)
	return ids
}

// Kept lists what the vault keeps of machines that are not protected, by name.
func (p *Protector) Kept() ([]Kept, error) {
	// The vault first: who enables protection makes the record before the disk, so that
	// no disk of a new machine is taken for one without. Records of what is kept are last,
	// as they are made together with the end of the machine's.
	held := p.sink.Held()
	all, err := p.machines.All()
	if err != nil {
		return nil, fmt.Errorf("read which machines are protected: %w", err)
	}
	protected, disks, named := map[replication.MachineID]bool{}, map[replication.DiskID]bool{}, map[replication.MachineID]bool{}
	for _, m := range all {
		protected[m.ID] = true
		for _, d := range m.Disks {
			disks[d.ID] = true
		}
	}
	for _, d := range held {
		named[d.Machine] = true
	}
	foreign := slices.DeleteFunc(held, func(d replication.Disk) bool {
		return disks[d.ID] || protected[ownerOf(d, func(m replication.MachineID) bool { return protected[m] })]
	})
	if len(foreign) == 0 {
		return nil, nil
	}
	records, err := p.keptRecords()
	if err != nil {
		return nil, err
	}
	known := func(m replication.MachineID) bool { return records[m].ID != "" || named[m] }
	// Of two that have one ID, a machine and a disk, each is one of its own.
	type whose struct {
		machine replication.MachineID
		disk    replication.DiskID // of what belongs to no machine
	}
	byOwner := map[whose]Kept{}
	for _, d := range foreign {
		owner := whose{machine: ownerOf(d, known)}
		id := string(owner.machine)
		if id == "" {
			owner.disk, id = d.ID, string(d.ID)
		}
		k, ok := byOwner[owner]
		if !ok {
			k = Kept{ID: id, Machine: owner.machine, Record: records[owner.machine]}
		}
		if err := p.addKept(&k, d.ID); errors.Is(err, replication.ErrUnknownDisk) {
			continue // erased meanwhile
		} else if err != nil {
			return nil, err
		}
		byOwner[owner] = k
	}
	list := slices.SortedFunc(maps.Values(byOwner), func(a, b Kept) int {
		return cmp.Or(strings.Compare(a.Name(), b.Name()), strings.Compare(a.ID, b.ID), cmp.Compare(b.Machine, a.Machine))
	})
	for _, k := range list {
		slices.Reverse(k.Points)
	}
	return list, nil
}

// addKept adds one disk to what is kept, its points in the vault's order. The error wraps
// ErrUnknownDisk when there is no such disk any more; then nothing was added.
func (p *Protector) addKept(k *Kept, id replication.DiskID) error {
	points, unread := p.sink.Points(id)
	if errors.Is(unread, replication.ErrUnknownDisk) {
		return unread
	}
	info, err := p.sink.Info(id)
	if err != nil {
		return fmt.Errorf("look at disk %s: %w", id, err)
	}
	if unread != nil {
		k.Unread = append(k.Unread, id)
		if info.Trouble == nil {
			info.Trouble = unread
		}
	}
	k.Disks = append(k.Disks, info)
	for _, point := range points {
		if point.Locked && (k.Locked == nil || point.LockedUntil.After(k.Locked.LockedUntil)) {
			k.Locked = &point
		}
	}
	k.Points = merge(k.Points, points)
	return nil
}

// ownerOf is the machine that a disk belongs to, or none. The vault knows only the name of a
// disk that could not be opened: it begins with the machine's (see DiskID), if that is known.
func ownerOf(d replication.Disk, known func(replication.MachineID) bool) replication.MachineID {
	if d.Machine != "" || d.Size != 0 {
		return d.Machine
	}
	if name, _, ok := strings.Cut(string(d.ID), "."); ok && known(replication.MachineID(name)) {
		return replication.MachineID(name)
	}
	return ""
}

func (p *Protector) keptRecords() (map[replication.MachineID]store.Kept, error) {
	records := map[replication.MachineID]store.Kept{}
	err := p.store.View(func(tx *store.Tx) error {
		for k, err := range tx.Kept().All() {
			if err != nil {
				return err
			}
			records[k.ID] = k
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read whose points are kept: %w", err)
	}
	return records, nil
}

// KeptOf gives what the vault keeps of one machine that is not protected. That it cannot be
// erased now, because it is locked or nobody knows whether it is, is an error of its own.
func (p *Protector) KeptOf(id string) (Kept, error) {
	list, err := p.Kept()
	if err != nil {
		return Kept{}, err
	}
	i := slices.IndexFunc(list, func(k Kept) bool { return k.ID == id })
	if i < 0 {
		return Kept{}, replication.Stopf("kept.unknown", "choose one of those that are listed", "the vault keeps nothing of %q that is not protected", id)
	}
	k := list[i]
	switch {
	case len(k.Unread) > 0:
		return k, replication.Stopf("kept.unread", "see under Infrastructure why, and ask for it anew when it can be read",
			"disk %s of %s cannot be read: nobody knows whether its points are locked", k.Unread[0], k.Name())
	case k.Locked != nil:
		return k, lockedProblem(k.Name(), *k.Locked)
	}
	return k, nil
}

// EraseKept erases these disks, which are all that the vault keeps of a machine that is not
// protected. The caller has made sure that four eyes saw it. What has begun is not ended by
// ctx.
func (p *Protector) EraseKept(ctx context.Context, id, actor string, disks []replication.DiskID) error {
	k, err := p.KeptOf(id)
	if err != nil {
		return err
	}
	if asked := slices.Sorted(slices.Values(disks)); !slices.Equal(k.DiskIDs(), asked) {
		return replication.Stopf("approval.overtaken", "look at what is kept, and ask for it anew", "the vault keeps other disks of %s than when that was asked for", k.Name())
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), eraseLimit, fmt.Errorf("the vault did not erase it within %s", eraseLimit))
	defer cancel()
	gone, failed := 0, error(nil)
	for _, d := range k.Disks {
		err := p.sink.Erase(ctx, d.Disk.ID)
		if err != nil && !errors.Is(err, replication.ErrUnknownDisk) {
			failed = fmt.Errorf("erase disk %s: %w", d.Disk.ID, err)
			if _, err := p.sink.Info(d.Disk.ID); errors.Is(err, replication.ErrUnknownDisk) {
				gone++ // only files of it are left
			}
			break
		}
		gone++
	}
	if gone == 0 {
		return failed
	}
	return errors.Join(failed, p.tellErased(k, actor, gone))
}

// tellErased notes that so many disks of what was kept are gone, and forgets it when all are.
func (p *Protector) tellErased(k Kept, actor string, gone int) error {
	text := fmt.Sprintf("what the vault kept of %s was erased by %s: %d disks with %d recovery points", k.Name(), actor, len(k.Disks), len(k.Points))
	if gone < len(k.Disks) {
		text = fmt.Sprintf("what the vault kept of %s was erased by %s in part: %d of %d disks", k.Name(), actor, gone, len(k.Disks))
	}
	forget := gone == len(k.Disks) && k.Record.ID != ""
	err := p.store.Update(func(tx *store.Tx) error {
		err := tx.AddEvent(store.Event{Severity: store.SeverityWarning, Code: "kept.erased", Machine: string(k.Machine), Name: k.Name(), Text: text,
			Args: map[string]string{"id": k.ID, "actor": actor, "disks": fmt.Sprint(gone), "points": fmt.Sprint(len(k.Points))}})
		if err != nil || !forget {
			return err
		}
		return tx.Kept().Delete(string(k.Record.ID))
	})
	if !forget { // the store tells of its own records
		p.changed("kept/" + k.ID)
	}
	return err
}

// forgetErased ends the records of what is kept of machines of which the vault has no disk:
// an erase that was cut off has left them.
func (p *Protector) forgetErased() error {
	records, err := p.keptRecords()
	if err != nil || len(records) == 0 {
		return err
	}
	// After the records: the disks are there before one is made.
	for _, d := range p.sink.Held() {
		delete(records, ownerOf(d, func(replication.MachineID) bool { return true }))
	}
	if len(records) == 0 {
		return nil
	}
	err = p.store.Update(func(tx *store.Tx) error {
		for id := range records {
			if err := tx.Kept().Delete(string(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget of which machines points were kept: %w", err)
	}
	for id, k := range records {
		p.log.Info("nothing is left of what was kept of a machine, and its record ends: an erase was cut off", "machine", id, "name", k.Name)
	}
	return nil
}
