package replication

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"
)

// PointID names a recovery point. It is unique inside an appliance and sorts by
// age as text. Example: "20261123T094501.250Z-3f9a07c2". It is also the name by
// which a source remembers the instant (a dirty bitmap, a change id), so it uses
// only letters, digits, '.' and '-'.
type PointID string

// NewPointID names a point by its instant, so that names sort by age, and by four
// random bytes, so that two appliances never give the same name.
func NewPointID(at time.Time) PointID {
	var b [4]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return PointID(at.UTC().Format(pointIDTime) + "-" + hex.EncodeToString(b[:]))
}

const pointIDTime = "20060102T150405.000Z"

// Time is the instant that the name tells, if it was made by [NewPointID].
func (id PointID) Time() (at time.Time, ok bool) {
	name, _, _ := strings.Cut(string(id), "-")
	at, err := time.Parse(pointIDTime, name)
	return at, err == nil
}

// Consistency says what really happened when a point was taken. It is never a
// wish: a point is labelled by what ran.
type Consistency string

const (
	// CrashConsistent: all disks at one instant, as after a power cut.
	CrashConsistent Consistency = "crash"
	// AppConsistent: the guest had flushed and frozen its file systems.
	AppConsistent Consistency = "app"
	// Clean: the machine was shut down; nothing was running or in flight.
	Clean Consistency = "clean"
)

// Mark closes a recovery point on one disk: everything with a lower sequence
// belongs to it. It takes a sequence number itself.
type Mark struct {
	Disk     DiskID
	Epoch    Epoch
	Sequence Sequence

	Point       PointID
	Time        time.Time // the instant the point shows, by the appliance's clock
	Consistency Consistency
	Size        int64 // of the disk at that instant, bytes

	// Members are all disks that the point consists of. The point exists when
	// each of them holds its mark; until then it is not offered.
	Members []DiskID
	// Tag is shared by points of one consistency group, or is a person's note.
	Tag string
}

// RecoveryPoint is a finished point of a machine, or of one disk when it belongs
// to no machine.
type RecoveryPoint struct {
	ID          PointID     `json:"id"`
	Time        time.Time   `json:"time"`
	Consistency Consistency `json:"consistency"`
	Disks       []DiskID    `json:"disks"`
	Tag         string      `json:"tag,omitempty"`
	// ChangedBytes is the logical length of what the point changed against the
	// one before it; StoredBytes what that takes in the vault.
	ChangedBytes int64 `json:"changed_bytes"`
	StoredBytes  int64 `json:"stored_bytes"`

	// Pinned: a person keeps it. Locked: until LockedUntil, by the time that the vault
	// trusts, nobody can let it go.
	Pinned      bool      `json:"pinned,omitempty"`
	Locked      bool      `json:"locked,omitempty"`
	LockedUntil time.Time `json:"locked_until,omitzero"`

	// Damage says which bytes of the point cannot be read back, [MaxDamage] places at most.
	// A point with damage is never offered as the latest.
	Damage []Damage `json:"damage,omitempty"`
	// Suspect: taken since a disk seems to be encrypted. LastClean: the newest point
	// before that, kept until a person dismisses the alarm.
	Suspect   bool `json:"suspect,omitempty"`
	LastClean bool `json:"last_clean,omitempty"`
}

// MaxDamage is how many damaged places are named of a point: a bad place of the storage may
// be a thousand blocks of ten thousand points.
const MaxDamage = 32

// Damage is a place of a disk that a recovery point cannot give back. Length 0
// means that the place is not known.
type Damage struct {
	Disk   DiskID `json:"disk"`
	Offset int64  `json:"offset"` // bytes
	Length int64  `json:"length"` // bytes
}

// Later orders points by time, then by name.
func (p RecoveryPoint) Later(o RecoveryPoint) bool {
	if !p.Time.Equal(o.Time) {
		return p.Time.After(o.Time)
	}
	return p.ID > o.ID
}
