package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"riparo/replication"
)

func openWith(t *testing.T, path string, steps []migration) (*Store, error) {
	t.Helper()
	return open(path, Options{NoSync: true}, steps)
}

// rename is a made-up step: the site "rome" becomes "roma".
var rename = migration{"rename a site", func(tx *bolt.Tx) error {
	b := tx.Bucket([]byte("sites"))
	text, err := unseal("rome", b.Get([]byte("rome")))
	if err != nil {
		return err
	}
	return errors.Join(b.Delete([]byte("rome")), b.Put([]byte("roma"), seal("roma", append([]byte(`{"name":"roma","kind":`), text[len(`{"name":"rome","kind":`):]...))))
}}

func atVersion(t *testing.T, s *Store, want int) {
	t.Helper()
	if got, err := s.version(); err != nil || got != want {
		t.Errorf("schema version %d, %v; want %d", got, err, want)
	}
}

func TestAnOlderSchemaIsBroughtUpToDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := openWith(t, path, migrations)
	if err != nil {
		t.Fatal(err)
	}
	atVersion(t, s, len(migrations))
	if err := errors.Join(Put(s, Sites, Site{Name: "rome", Kind: "lab"}), s.Close()); err != nil {
		t.Fatal(err)
	}

	// A step that fails leaves the schema where it was, and the next start tries again.
	boom := errors.New("boom")
	newer := append(append([]migration(nil), migrations...), rename)
	broken := append(append([]migration(nil), newer...), migration{"break", func(tx *bolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte("users")), boom)
	}})
	if s, err = openWith(t, path, broken); !errors.Is(err, boom) {
		t.Fatalf("got %v, %v; want boom", s, err)
	}
	if s, err = openWith(t, path, newer); err != nil {
		t.Fatal(err)
	}
	atVersion(t, s, len(newer))
	if site, err := Get(s, Sites, "roma"); err != nil || site.Kind != "lab" {
		t.Errorf("after the migration: %+v, %v", site, err)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Error(err)
	}

	// The file of before is beside it, and opens with the program of before.
	if s, err = openWith(t, fmt.Sprintf("%s.v%d", path, len(migrations)), migrations); err != nil {
		t.Fatal(err)
	}
	if _, err := Get(s, Sites, "rome"); err != nil {
		t.Errorf("in the copy: %v", err)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Error(err)
	}

	// The program of before refuses the new file, and leaves it as it is.
	before, _ := os.ReadFile(path)
	_, err = openWith(t, path, migrations)
	p, ok := errors.AsType[*replication.Problem](err)
	if !ok || p.Code != "store.version" || p.Effect == "" || p.Action == "" {
		t.Errorf("an older program: got %v, want the problem store.version", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file was changed")
	}
}

// A crash between two steps leaves a valid schema in between.
func TestStepsAreDoneOneByOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	done := 0
	steps := append([]migration(nil), migrations...)
	for i := range 3 {
		steps = append(steps, migration{fmt.Sprint("step ", i), func(tx *bolt.Tx) error {
			done++
			_, err := tx.CreateBucket(fmt.Append(nil, "bucket ", i))
			return err
		}})
	}
	for n := len(migrations); n <= len(steps); n++ {
		s, err := openWith(t, path, steps[:n])
		if err != nil {
			t.Fatal(err)
		}
		atVersion(t, s, n)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if done != 3 {
		t.Errorf("%d steps were done, want each of 3 once", done)
	}
}
