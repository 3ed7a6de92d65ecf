package replication

import (
	"strings"
	"testing"
	"time"
)

func TestALockThatNobodyCanWantIsRefused(t *testing.T) {
	for lock, ok := range map[time.Duration]bool{
		0: true, time.Minute: true, MaxLockFor: true, -time.Second: false, MaxLockFor + 1: false,
	} {
		p := DefaultPolicy()
		p.LockFor = lock
		if err := p.Check(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "locked for") {
			t.Errorf("locked for %s: %v, want accepted %v", lock, err, ok)
		}
	}
}

func TestRetentionKeepsWhatIsHeldAndTheLastGoodPoint(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(id PointID, hours int) RecoveryPoint {
		return RecoveryPoint{ID: id, Time: now.Add(-time.Duration(hours) * time.Hour)}
	}
	old, pinned, locked, good, damaged := at("old", 90), at("pinned", 80), at("locked", 70), at("good", 60), at("damaged", 50)
	pinned.Pinned, locked.Locked = true, true
	damaged.Damage = []Damage{{Disk: "d"}}
	drop := Retention{{Until: time.Hour}}.Drop([]RecoveryPoint{damaged, good, locked, pinned, old}, now)
	if len(drop) != 1 || drop[0] != "old" {
		t.Errorf("drops %v, want only the old one: one is pinned, one locked, one the last that is whole, one the newest", drop)
	}
}
