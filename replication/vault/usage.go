package vault

import (
	"slices"
	"time"

	"riparo/replication"
)

// Usage is the room that a vault takes, in bytes.
type Usage struct {
	LogicalBytes int64 // of the heads of all disks that hold data
	StoredBytes  int64 // of all files of all disks
	Segments     int
	TotalBytes   int64 // of the file system under the vault
	FreeBytes    int64 // of it; 0 with TotalBytes 0 when unknown
}

// Usage tells the room that the vault takes.
func (v *Vault) Usage() Usage {
	u := v.Room()
	for _, d := range v.list() {
		if d.sick == nil {
			u.LogicalBytes += d.measured().logical
		}
	}
	return u
}

// Room is what Usage tells without LogicalBytes, for which maps have to be read.
func (v *Vault) Room() Usage {
	var u Usage
	for _, d := range v.list() {
		stored, segments := d.storedBytes()
		u.StoredBytes += stored
		u.Segments += segments
	}
	if space, err := v.fs.Space(v.dir); err == nil {
		u.TotalBytes, u.FreeBytes = space.Total, space.Free
	}
	return u
}

// Disks tells what the vault holds, sorted by name.
func (v *Vault) Disks() []DiskInfo {
	var list []DiskInfo
	for _, d := range v.list() {
		info, err := v.info(d)
		if err != nil {
			continue // erased meanwhile
		}
		if d.sick == nil {
			info.LogicalBytes = d.measured().logical
		}
		list = append(list, info)
	}
	return list
}

// Held tells the disks that the vault holds, sorted by name, and reads nothing for it. Of
// one that could not be opened it knows the name alone.
func (v *Vault) Held() []replication.Disk {
	var list []replication.Disk
	for _, d := range v.list() {
		held := replication.Disk{ID: d.id}
		if d.sick == nil {
			d.mu.Lock()
			held = d.disk
			d.mu.Unlock()
		}
		list = append(list, held)
	}
	return list
}

// Info tells of one disk what Disks does, without LogicalBytes, for which maps have to be
// read. The error wraps ErrUnknownDisk.
func (v *Vault) Info(id replication.DiskID) (DiskInfo, error) {
	d, err := v.findAny(id)
	if err != nil {
		return DiskInfo{}, err
	}
	return v.info(d)
}

func (v *Vault) info(d *disk) (DiskInfo, error) {
	stored, _ := d.storedBytes()
	if d.sick != nil {
		return DiskInfo{DiskState: replication.DiskState{Disk: replication.Disk{ID: d.id}}, StoredBytes: stored, Trouble: d.sick}, nil
	}
	points, err := v.Points(d.id)
	if err != nil {
		return DiskInfo{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return DiskInfo{DiskState: d.report(), Points: len(points), StoredBytes: stored, Damaged: len(d.damaged), Trouble: d.trouble}, nil
}

// Totals are the bytes of all disks and the number of their recovery points that are
// complete. They are what Disks tells of them, for the cost of counting.
func (v *Vault) Totals() (size int64, points int) {
	for _, d := range v.list() {
		if d.sick != nil {
			continue
		}
		d.mu.Lock()
		size += d.disk.Size
		own := !slices.ContainsFunc(d.points, func(p *point) bool { return len(p.members) > 1 || len(p.members) == 1 && p.members[0] != d.id })
		list := d.points
		if !own {
			list = slices.Clone(list)
		}
		count := len(list)
		d.mu.Unlock()
		if !own { // others may lack their marks
			count = len(v.complete(list))
		}
		points += count
	}
	return size, points
}

// Empty reports whether the vault holds no disk.
func (v *Vault) Empty() bool { return len(v.list()) == 0 }

// list gives the disks that exist, sorted by name.
func (v *Vault) list() []*disk {
	v.mu.RLock()
	disks := inOrder(v.disks)
	v.mu.RUnlock() // a disk that is slow to answer keeps none of the others waiting
	return slices.DeleteFunc(disks, func(d *disk) bool { return !d.exists() })
}

// measures are what maps have to be read for, and when it was found out.
type measures struct {
	serial  serial
	nextMap uint32
	dead    int
	entries int64 // in the maps that had to be read
	at      time.Time
	logical int64
}

const (
	// largeMap and more entries take so long to count that the figures may be as old
	// as measureEvery.
	largeMap     = 1 << 20
	measureEvery = time.Minute
)

// measured gives the figures of the disk as they are, or were not long ago.
func (d *disk) measured() measures {
	d.mu.Lock()
	m := measures{serial: d.serial, nextMap: d.nextMap, dead: len(d.dead), entries: int64(d.memory.entries), at: d.vault.now()}
	for _, t := range d.tiles {
		m.entries += t.fine.count
	}
	last := d.lastMeasures
	d.mu.Unlock()
	same := last.serial == m.serial && last.nextMap == m.nextMap && last.dead == m.dead
	if last.serial > 0 && (same || m.entries >= largeMap && m.at.Sub(last.at) < measureEvery) {
		return last
	}
	m.logical = d.logicalBytes()
	m.at = d.vault.now() // counting may take longer than measureEvery
	d.mu.Lock()
	d.lastMeasures = m
	d.mu.Unlock()
	return m
}

// logicalBytes are the bytes of the head that hold data; 0 while they cannot be told.
func (d *disk) logicalBytes() int64 {
	d.mu.Lock()
	w, err := d.view(d.disk.Size, d.serial)
	if err != nil {
		return 0
	}
	defer w.Close()
	total, err := w.dataBytes()
	if err != nil {
		return 0
	}
	return total
}

// storedBytes are the bytes of the files of the disk, and the number of segments.
func (d *disk) storedBytes() (bytes int64, segments int) {
	files, err := d.vault.fs.ReadDir(d.folder)
	if err != nil {
		return 0, 0 // erased meanwhile
	}
	for _, f := range files {
		bytes += f.Size
		if _, ok := segmentNumber(f.Name); ok {
			segments++
		}
	}
	return bytes, segments
}
