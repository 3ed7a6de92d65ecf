package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

// maxFindings bounds what a check of a damaged file reports.
const maxFindings = 20

// Check reads everything and reports what is wrong: the structure of the file,
// records that do not decode or stand under the wrong key, indexes and counts
// that do not match, references that lead nowhere. It takes the time that reading
// the file takes.
func (s *Store) Check() error {
	return errors.Join(s.checkFile(), s.View(func(tx *Tx) error {
		var found []string
		for _, k := range kinds {
			found = append(found, k.checkRecords(tx)...)
		}
		if len(found) == 0 { // references can be followed
			found = append(checkMachines(tx), checkJobs(tx)...)
		}
		return asDamage(s.path, found)
	}))
}

// checkFile reads the whole file once: its structure and the checksum of each
// value. It is what Open does, before anything relies on the file.
func (s *Store) checkFile() (err error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	return s.View(func(tx *Tx) error {
		// First of all, because a page behind the end cannot be read at all.
		if info.Size() < tx.bolt.Size() {
			return problem(s.path, &damage{what: fmt.Sprintf("it was cut: %d bytes of %d", info.Size(), tx.bolt.Size())})
		}
		var found []string
		for err := range tx.bolt.Check() { // to the end: bbolt waits for us to read
			if len(found) < maxFindings {
				found = append(found, err.Error())
			}
		}
		if len(found) == 0 && tx.bolt.Bucket(selfBucket) != nil {
			for _, k := range kinds {
				found = append(found, k.checkTexts(tx)...)
			}
		}
		return asDamage(s.path, found)
	})
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

// checkTexts reads all values of the kind and compares their checksums.
func (k *Kind[T]) checkTexts(tx *Tx) (found []string) {
	b := tx.bolt.Bucket([]byte(k.name))
	if b == nil {
		return nil // a kind that a migration to come will make
	}
	err := func() (err error) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer catch(&err)
		return b.ForEach(func(key, sealed []byte) error {
			_, err := unseal(string(key), sealed)
			return err
		})
	}()
	if err != nil {
		found = append(found, k.name+": "+err.Error())
	}
	return found
}

// checkRecords decodes all records and compares indexes and count with them.
func (k *Kind[T]) checkRecords(tx *Tx) (found []string) {
	table := k.in(tx)
	count := 0
	listed := map[string]int{} // entries per index
	for key := ""; ; count++ {
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
	if n, err := table.Count(); err != nil || n != count {
		found = append(found, fmt.Sprintf("%s counts %d records and has %d (%v)", k.name, n, count, err))
	}
	for _, ix := range k.indexes {
		if n := tx.bolt.Bucket([]byte(ix.name)).Stats().KeyN; n != listed[ix.name] {
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
