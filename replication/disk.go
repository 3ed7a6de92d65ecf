package replication

import "fmt"

// MachineID names a protected machine inside one appliance. Example: "m-4f7c21aa".
type MachineID string

// DiskID names one protected disk inside a vault. It is also a folder name, so
// only a safe alphabet is allowed. Example: "web01.vda".
type DiskID string

// maxDiskIDLength leaves room for suffixes within the 255 bytes of a file name.
const maxDiskIDLength = 128

// Check reports whether id can name a disk: 1 to 128 letters, digits, dots,
// hyphens and underscores, beginning with a letter or a digit.
func (id DiskID) Check() error {
	if id == "" || len(id) > maxDiskIDLength {
		return fmt.Errorf("disk name %q: want 1 to %d characters", string(id), maxDiskIDLength)
	}
	for i := range len(id) {
		c := id[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || c != '.' && c != '-' && c != '_') {
			return fmt.Errorf("disk name %q: only letters, digits, '.', '-' and '_', beginning with a letter or digit", string(id))
		}
	}
	return nil
}

// Disk is a disk as a Sink knows it. Size is in bytes and may be any number: an
// image of 0 bytes and one that ends in the middle of a sector are disks too.
type Disk struct {
	ID      DiskID
	Machine MachineID // empty for a disk that belongs to no protected machine
	Size    int64
}

// Epoch counts the owners of a machine. It is raised at every failover and
// failback, before the new owner's first write, and every batch carries it: the
// Sink refuses what comes with an older one.
type Epoch uint64

// Sequence numbers what a Sink receives for one disk: 1, 2, 3, … without gaps,
// batches and marks alike. It makes sending twice harmless.
type Sequence uint64
