package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// maxFindings bounds what a check of a damaged file reports.
const maxFindings = 20

// Check reads everything and reports what is wrong: pages, values that do not
// match their checksums, records that do not decode or stand under the wrong key,
// indexes and counts that do not match, references that lead nowhere. It takes
// the time and, for a moment, the space of a copy of the file.
func (s *Store) Check() error {
	return s.View(func(tx *Tx) error {
		if err := s.checkCopy(tx); err != nil {
			return err
		}
		found := tx.checkTexts()
		for _, k := range kinds {
			found = append(found, k.checkRecords(tx)...)
		}
		if len(found) == 0 { // references can be followed
			found = append(checkMachines(tx), checkJobs(tx)...)
		}
		return asDamage(s.path, found)
	})
}

// checkCopy checks the pages of the file as tx sees it, in a copy: the file itself
// is written to meanwhile. When they are whole bbolt has a look at them too.
func (s *Store) checkCopy(tx *Tx) (err error) {
	f, err := s.spool(tx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err := errors.Join(f.Close(), checkPages(f.Name())); err != nil {
		return problem(s.path, err)
	}
	db, err := boltOpen(f.Name(), Options{}, true)
	if err != nil {
		return problem(s.path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bolt.Tx) error {
		var found []string
		for err := range tx.Check() { // to the end: bbolt waits for us to read
			if len(found) < maxFindings {
				found = append(found, err.Error())
			}
		}
		return asDamage(s.path, found)
	})
}

// checkTexts reads all values once. It is what Open does, before anything relies
// on them.
func (s *Store) checkTexts() error {
	return s.View(func(tx *Tx) error {
		if tx.bolt.Bucket(selfBucket) == nil {
			return nil // not ours, or not begun: see version
		}
		return asDamage(s.path, tx.checkTexts())
	})
}

func (tx *Tx) checkTexts() (found []string) {
	for _, k := range kinds {
		found = append(found, k.checkTexts(tx)...)
	}
	return found
}

func asDamage(path string, found []string) error {
	if len(found) == 0 {
		return nil
	}
	more := ""
	if len(found) > maxFindings {
		more = fmt.Sprintf("; and %d more", len(found)-maxFindings)
		found = found[:maxFindings]
	}
	return problem(path, &damage{what: strings.Join(found, "; ") + more})
}

// checkTexts reads all values of the kind and its indexes and compares their
// checksums, and their number with the count.
func (k *Kind[T]) checkTexts(tx *Tx) (found []string) {
	records, indexes := k.buckets()
	for _, name := range append([]string{records}, indexes...) {
		if err := checkBucket(tx, name); err != nil {
			found = append(found, name+": "+err.Error())
		}
	}
	return found
}

func checkBucket(tx *Tx, name string) (err error) {
	defer catch(&err)
	b := tx.bolt.Bucket([]byte(name))
	if b == nil {
		return nil // of a kind that a migration to come will make, see missing
	}
	count := uint64(0)
	err = b.ForEach(func(key, sealed []byte) error {
		count++
		_, err := unseal(string(key), sealed)
		return err
	})
	if err == nil && count != b.Sequence() {
		err = &damage{what: fmt.Sprintf("it counts %d entries and has %d", b.Sequence(), count)}
	}
	return err
}

// missing names a bucket that is not there although every migration was done.
func (s *Store) missing() error {
	return s.View(func(tx *Tx) error {
		for _, k := range kinds {
			records, indexes := k.buckets()
			for _, name := range append([]string{records}, indexes...) {
				if tx.bolt.Bucket([]byte(name)) == nil {
					return problem(s.path, &damage{what: fmt.Sprintf("the bucket %s is missing", name)})
				}
			}
		}
		return nil
	})
}

// checkRecords decodes all records and compares the indexes with them.
func (k *Kind[T]) checkRecords(tx *Tx) (found []string) {
	table := k.in(tx)
	listed := map[string]int{} // entries per index
	for key := ""; ; {
		next, err := table.step(key, false)
		if err != nil {
			return append(found, err.Error())
		}
		if key = next; key == "" {
			break
		}
		text, err := table.text(key)
		if err != nil {
			found = append(found, err.Error())
			continue
		}
		var v T
		if err := json.Unmarshal(text, &v); err != nil {
			found = append(found, fmt.Sprintf("%s %s: %v", k.name, key, err))
			continue
		}
		if own := k.keyOf(&v); own != key {
			found = append(found, fmt.Sprintf("%s %s stands under the key %s", k.name, own, key))
		}
		for i := range k.indexes {
			ix := &k.indexes[i]
			entry := ix.entry(&v, key)
			if entry == "" {
				continue
			}
			listed[ix.name]++
			if tx.bolt.Bucket([]byte(ix.name)).Get([]byte(entry)) == nil {
				found = append(found, fmt.Sprintf("%s %s is missing in the index %s", k.name, key, ix.name))
			}
		}
	}
	for _, ix := range k.indexes {
		if n := int(tx.bolt.Bucket([]byte(ix.name)).Sequence()); n != listed[ix.name] {
			found = append(found, fmt.Sprintf("the index %s has %d entries for %d records", ix.name, n, listed[ix.name]))
		}
	}
	return found
}

// checkMachines follows what machines refer to.
func checkMachines(tx *Tx) (found []string) {
	for m, err := range tx.Machines().All() {
		if err != nil {
			return append(found, err.Error())
		}
		refer := func(what, name string, get func() error) {
			if name == "" {
				return
			}
			if err := get(); err != nil {
				found = append(found, fmt.Sprintf("machine %s refers to the %s %s: %v", m.ID, what, name, err))
			}
		}
		site := func(name string) func() error {
			return func() error { _, err := tx.Sites().Get(name); return err }
		}
		refer("source site", m.Source.Site, site(m.Source.Site))
		refer("target site", m.Target.Site, site(m.Target.Site))
		refer("policy", m.Policy, func() error { _, err := tx.Policies().Get(m.Policy); return err })
	}
	return found
}

// checkJobs holds the promise of one unfinished job per machine.
func checkJobs(tx *Tx) (found []string) {
	jobs, err := tx.AllUnfinishedJobs()
	if err != nil {
		return []string{err.Error()}
	}
	first := map[string]string{}
	for _, j := range jobs {
		if other, twice := first[j.Machine]; twice && j.Machine != "" {
			found = append(found, fmt.Sprintf("machine %s has two unfinished jobs: %s and %s", j.Machine, other, j.ID))
		}
		first[j.Machine] = j.ID
	}
	return found
}
