package store

import "riparo/replication"

// Export is a recovery point served over NBD for as long as the record exists:
// after a restart of the daemon it is served again at the same address, so that a
// machine which runs on it only waits. Key: its Name.
type Export struct {
	Name  string              `json:"name"`
	Disk  replication.DiskID  `json:"disk"`
	Point replication.PointID `json:"point"`
	Owner string              `json:"owner"` // the machine or job it belongs to
}
