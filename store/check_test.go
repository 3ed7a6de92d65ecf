package store

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"riparo/replication"
)

// Check finds what a mistake of ours would leave behind: bytes that are whole and
// say something that cannot be.
func TestCheckFindsWhatDoesNotFitTogether(t *testing.T) {
	machine := func(id, policy string) Machine {
		return Machine{ID: replication.MachineID(id), Policy: policy, Source: Place{Site: "rome"}, Target: Place{Site: "oslo"}}
	}
	for _, c := range []struct {
		name  string
		want  string
		spoil func(tx *Tx) error
	}{
		{"nothing", "", func(*Tx) error { return nil }},
		{"entry lost", "missing in the index jobs.machine", func(tx *Tx) error {
			return remove(tx.bolt.Bucket([]byte("jobs.machine")), "m-1\x00j-1")
		}},
		{"entry too many", "the index events.machine has 2 entries for 1 records", func(tx *Tx) error {
			return add(tx.bolt.Bucket([]byte("events.machine")), "m-9\x00e-1", seal("m-9\x00e-1", nil))
		}},
		{"entry without a checksum", "jobs.state", func(tx *Tx) error {
			return tx.bolt.Bucket([]byte("jobs.state")).Put([]byte("failed\x00j-1"), nil)
		}},
		{"count too high", "sites: it counts 3 entries and has 2", func(tx *Tx) error {
			b := tx.bolt.Bucket([]byte("sites"))
			return b.SetSequence(b.Sequence() + 1)
		}},
		{"record under another key", "machines m-1 stands under the key m-7", func(tx *Tx) error {
			text, err := tx.Machines().text("m-1")
			return errors.Join(err, add(tx.bolt.Bucket([]byte("machines")), "m-7", seal("m-7", text)))
		}},
		{"no JSON", "users anna", func(tx *Tx) error {
			return add(tx.bolt.Bucket([]byte("users")), "anna", seal("anna", []byte("{")))
		}},
		{"wrong type", "users anna", func(tx *Tx) error {
			return add(tx.bolt.Bucket([]byte("users")), "anna", seal("anna", []byte(`{"name":7}`)))
		}},
		{"policy gone", "machine m-1 refers to the policy gold", func(tx *Tx) error { return tx.Machines().Put(machine("m-1", "gold")) }},
		{"site gone", "machine m-1 refers to the target site oslo", func(tx *Tx) error { return tx.Sites().Delete("oslo") }},
		{"two unfinished jobs", "machine m-1 has two unfinished jobs: j-1 and j-2", func(tx *Tx) error {
			return tx.Jobs().Put(Job{ID: "j-2", Machine: "m-1", State: WaitingToRetry})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(filepath.Join(t.TempDir(), "state.db"), Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			err = s.Update(func(tx *Tx) error {
				return errors.Join(
					tx.Sites().Put(Site{Name: "rome"}), tx.Sites().Put(Site{Name: "oslo"}),
					tx.Policies().Put(Policy{replication.DefaultPolicy()}),
					tx.Machines().Put(machine("m-1", "default")),
					tx.Jobs().Put(Job{ID: "j-1", Machine: "m-1", State: InProgress}),
					tx.Events().Put(Event{ID: "e-1", Machine: "m-1"}),
					c.spoil(tx))
			})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Check()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v\nwant %q", err, c.want)
			}
		})
	}
}

// While others write, a check sees one instant.
func TestCheckRunsBesideWriters(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "state.db"), Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			err = s.Update(func(tx *Tx) error {
				text := strings.Repeat("x", i%3000)
				return errors.Join(tx.AddEvent(Event{Machine: "m-1", Text: text}), tx.Sites().Put(Site{Name: "rome", Address: text}))
			})
		}
		stopped <- err
	}()
	for range 20 {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// What the disk did not confirm is final until the file is opened again.
func TestAnUnconfirmedWriteIsFinal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(path, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := Put(s, Sites, Site{Name: "rome"}); err != nil {
		t.Fatal(err)
	}
	// The disk goes away under the store: bbolt's writes come back with an error.
	broken := errors.New("input/output error")
	if err := s.commitFailed(broken); !errors.Is(err, broken) {
		t.Errorf("got %v, want the disk's error inside", err)
	}
	for range 2 {
		err := Put(s, Sites, Site{Name: "oslo"})
		p, ok := errors.AsType[*replication.Problem](err)
		if !ok || p.Code != "store.failed" || p.Remedy != replication.Stop || p.Action == "" {
			t.Errorf("got %v, want the problem store.failed", err)
		}
	}
	if _, err := Get(s, Sites, "rome"); err != nil {
		t.Errorf("reading goes on: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path, Options{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Put(s, Sites, Site{Name: "oslo"}), s.Check(), s.Close()); err != nil {
		t.Error(err)
	}
}

// A page that goes bad while the file is open is a problem, not the end of the
// process.
func TestDamageWhileOpenIsAProblem(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "state.db"), Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.db.Update(func(tx *bolt.Tx) error {
		return add(tx.Bucket([]byte("sites")), "rome", []byte("junk that has no checksum"))
	})
	if err != nil {
		t.Fatal(err)
	}
	_, get := Get(s, Sites, "rome")
	_, list := List(s, Sites)
	for name, err := range map[string]error{
		"get": get, "list": list, "check": s.Check(),
		"put":    Put(s, Sites, Site{Name: "rome"}),
		"delete": Delete(s, Sites, "rome"),
	} {
		if p, ok := errors.AsType[*replication.Problem](err); !ok || p.Code != "store.damaged" {
			t.Errorf("%s: got %v, want the problem store.damaged", name, err)
		}
	}
}

func TestPanicsOfTheFileBecomeErrors(t *testing.T) {
	err := func() (err error) {
		defer catch(&err)
		panic("page 7: invalid page type")
	}()
	if p := knownProblem("state.db", err); p == nil || p.Code != "store.damaged" || !strings.Contains(p.Cause, "page 7") {
		t.Errorf("got %v", err)
	}
}
