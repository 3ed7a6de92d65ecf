package vault

import (
	"maps"
	"slices"
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
	var u Usage
	for _, d := range v.list() {
		logical := d.logicalBytes()
		stored, segments := d.storedBytes()
		u.LogicalBytes += logical
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
		points, err := v.Points(d.id)
		if err != nil {
			continue // erased meanwhile
		}
		d.mu.Lock()
		info := DiskInfo{DiskState: d.report(), Points: len(points), Damaged: len(d.damaged), Trouble: d.trouble}
		d.mu.Unlock()
		info.LogicalBytes = d.logicalBytes()
		info.StoredBytes, _ = d.storedBytes()
		list = append(list, info)
	}
	return list
}

// list gives the disks that exist, sorted by name.
func (v *Vault) list() []*disk {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var list []*disk
	for _, id := range slices.Sorted(maps.Keys(v.disks)) {
		if d := v.disks[id]; d.exists() {
			list = append(list, d)
		}
	}
	return list
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
