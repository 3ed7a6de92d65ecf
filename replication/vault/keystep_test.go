package vault

import (
	"fmt"

	"riparo/replication"
)

// turnKeys changes a key: of a disk, of the vault, or the master key. No content
// changes with it.
func (l *life) turnKeys(id replication.DiskID) error {
	switch l.random.IntN(3) {
	case 0:
		l.note("new data key for %s", id)
		l.faults["new keys"]++
		return l.vault.RotateDataKey(l.ctx, id)
	case 1:
		l.note("new key of the vault")
		l.faults["new keys"]++
		return l.vault.RotateVaultKey(l.ctx)
	}
	l.note("new master key")
	l.masters++
	l.faults["new keys"]++
	return l.vault.RotateMasterKey(l.ctx, l.keys())
}

// keys are the master keys of this life so far.
func (l *life) keys() masterKeys {
	keys := masterKeys{"first"}
	for i := range l.masters {
		keys = append(keys, fmt.Sprintf("master %d", i))
	}
	return keys
}
