package store

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The bucket of the file itself and its keys.
var (
	selfBucket = []byte("riparo")
	schemaKey  = []byte("schema") // number of migrations done, in decimal
	madeKey    = []byte("made")   // time of creation
)

// migration brings the schema one version up. It works on the raw buckets, never
// on today's kinds: they will be others when it runs.
type migration struct {
	name string
	run  func(*bolt.Tx) error
}

// migrations are all steps there ever were, in their order; the schema version is
// how many of them were done. A step that was released is never changed.
var migrations = []migration{
	{"make the first buckets", func(tx *bolt.Tx) error {
		return makeBuckets(tx,
			"machines", "jobs", "jobs.machine", "jobs.state", "jobs.unfinished",
			"events", "events.machine", "events.severity", "sites", "policies",
			"exports", "users", "tokens", "sessions", "settings")
	}},
	{"make the audit log", func(tx *bolt.Tx) error { return makeBuckets(tx, "audit") }},
	{"make the buckets of notifications", func(tx *bolt.Tx) error {
		return makeBuckets(tx, "alerts", "alerts.active", "deliveries", "deliveries.waiting")
	}},
	{"make the bucket of approvals", func(tx *bolt.Tx) error { return makeBuckets(tx, "approvals") }},
	{"make the bucket of calls with an idempotency key", func(tx *bolt.Tx) error { return makeBuckets(tx, "requests") }},
	{"make the bucket of machines whose points are kept", func(tx *bolt.Tx) error { return makeBuckets(tx, "kept") }},
}

func makeBuckets(tx *bolt.Tx, names ...string) error {
	for _, name := range names {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return fmt.Errorf("make bucket %s: %w", name, err)
		}
	}
	return nil
}

// migrate brings the file up to the last of steps. Each step is a transaction
// with its version, so a crash between two leaves a valid older schema. The file
// is copied beside itself first: "state.db.v1".
func (s *Store) migrate(steps []migration) error {
	version, err := s.version()
	switch {
	case err != nil:
		return err
	case version > len(steps):
		return &tooNew{version: version, known: len(steps)}
	case version > 0 && version < len(steps):
		if err := s.keepCopy(version); err != nil {
			return err
		}
	}
	for n := version; n < len(steps); n++ {
		err := s.db.Update(func(tx *bolt.Tx) error {
			self, err := tx.CreateBucketIfNotExists(selfBucket)
			if err != nil {
				return err
			}
			if n == 0 {
				if err := self.Put(madeKey, []byte(time.Now().UTC().Format(time.RFC3339))); err != nil {
					return err
				}
			}
			return errors.Join(steps[n].run(tx), self.Put(schemaKey, []byte(strconv.Itoa(n+1))))
		})
		if err != nil {
			return fmt.Errorf("bring the schema to version %d (%s): %w", n+1, steps[n].name, err)
		}
	}
	return nil
}

// version is the schema version of the file; 0 is a file that holds nothing yet.
func (s *Store) version() (version int, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		self := tx.Bucket(selfBucket)
		if self == nil {
			if name, _ := tx.Cursor().First(); name != nil {
				return &damage{what: "it is a bbolt file, but not one of Riparo"}
			}
			return nil
		}
		text := string(self.Get(schemaKey))
		if version, err = strconv.Atoi(text); err != nil || version < 1 {
			return &damage{what: fmt.Sprintf("its schema version reads %q", text)}
		}
		return nil
	})
	return version, err
}

// keepCopy copies the file beside itself before its schema is changed. A copy
// that is there already is from an attempt that was cut off: it is made again.
func (s *Store) keepCopy(version int) error {
	name := fmt.Sprintf("%s.v%d", s.path, version)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(s.Backup(f), f.Sync(), f.Close())
}

// Schema is the version of the schema that this program writes. A file of a higher
// one does not open.
func Schema() int { return len(migrations) }
