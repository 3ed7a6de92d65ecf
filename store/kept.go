package store

import (
	"time"

	"riparo/replication"
)

// Kept is a machine whose protection ended while its recovery points stay in the vault.
// Key: its ID.
type Kept struct {
	ID    replication.MachineID `json:"id"`
	Name  string                `json:"name"`
	Since time.Time             `json:"since"`
	By    string                `json:"by,omitempty"` // who disabled the protection
}
