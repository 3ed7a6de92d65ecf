package replication

import (
	"fmt"
	"time"
)

// Policy is how often a machine is replicated and what is kept of it.
type Policy struct {
	Name string `json:"name"`
	// CopyFrequency is the time between two recovery points. At least 5 s.
	CopyFrequency time.Duration `json:"copy_frequency"`
	// AppConsistentFrequency is the time between two application-consistent
	// points; 0 switches them off.
	AppConsistentFrequency time.Duration `json:"app_consistent_frequency"`
	// FreezeLimit is the longest that a guest may stay frozen for one of them.
	FreezeLimit time.Duration `json:"freeze_limit"`
	// RPOThreshold: a newest point older than this raises an event and turns
	// health to warning. It does not change replication.
	RPOThreshold time.Duration `json:"rpo_threshold"`
	// Retention says which points are kept.
	Retention Retention `json:"retention"`
	// LockFor is how long nobody can let a point go, from when it was made; 0 locks
	// none. A change holds for later points only: locks are never shortened.
	LockFor time.Duration `json:"lock_for,omitempty"`
	// BytesPerSecond limits what one machine sends; 0 is no limit.
	BytesPerSecond int64 `json:"bytes_per_second"`
}

// MinCopyFrequency: below this a cycle costs more than it saves.
const MinCopyFrequency = 5 * time.Second

// MaxLockFor bounds what a slip of the hand can lock: room that is locked cannot be
// had back by anybody.
const MaxLockFor = 366 * 24 * time.Hour

// DefaultPolicy is what a fresh appliance offers.
func DefaultPolicy() Policy {
	return Policy{
		Name:                   "default",
		CopyFrequency:          30 * time.Second,
		AppConsistentFrequency: time.Hour,
		FreezeLimit:            10 * time.Second,
		RPOThreshold:           15 * time.Minute,
		Retention:              DefaultRetention(),
	}
}

// Check reports what is wrong with p, or nil.
func (p Policy) Check() error {
	switch {
	case p.Name == "":
		return fmt.Errorf("a replication policy needs a name")
	case p.CopyFrequency < MinCopyFrequency:
		return fmt.Errorf("policy %s: copy frequency %s: the shortest is %s", p.Name, p.CopyFrequency, MinCopyFrequency)
	case p.AppConsistentFrequency != 0 && p.AppConsistentFrequency < p.CopyFrequency:
		return fmt.Errorf("policy %s: application-consistent frequency %s: not below the copy frequency %s", p.Name, p.AppConsistentFrequency, p.CopyFrequency)
	case p.FreezeLimit < 0 || p.FreezeLimit > time.Minute:
		return fmt.Errorf("policy %s: freeze limit %s: 0 to 1m0s", p.Name, p.FreezeLimit)
	case p.RPOThreshold != 0 && p.RPOThreshold < p.CopyFrequency:
		return fmt.Errorf("policy %s: RPO threshold %s: not below the copy frequency %s", p.Name, p.RPOThreshold, p.CopyFrequency)
	case p.LockFor < 0 || p.LockFor > MaxLockFor:
		return fmt.Errorf("policy %s: locked for %s: 0 to %s", p.Name, p.LockFor, MaxLockFor)
	case p.BytesPerSecond < 0:
		return fmt.Errorf("policy %s: bytes per second: not below 0", p.Name)
	}
	return p.Retention.Check()
}
