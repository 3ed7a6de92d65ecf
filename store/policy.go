package store

import "riparo/replication"

// Policy is a replication policy. Key: its Name.
type Policy struct {
	replication.Policy
}
