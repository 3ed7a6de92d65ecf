package web

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
)

// TestTheMemoryOfRecordsIsWhatTheStoreHas changes the store at random and compares
// what pages read with what is there.
func TestTheMemoryOfRecordsIsWhatTheStoreHas(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	st, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	k := &Console{Config: Config{Store: st}}
	_, k.memory.changed, k.memory.cancel = st.Subscribe()
	defer k.memory.cancel()
	for round := range 300 {
		for range random.IntN(4) {
			key := fmt.Sprint(random.IntN(6))
			err := st.Update(func(tx *store.Tx) error {
				switch random.IntN(8) {
				case 0:
					return tx.Machines().Delete(key)
				case 1, 2:
					return tx.Machines().Put(store.Machine{ID: replication.MachineID(key), Name: fmt.Sprint(random.Int())})
				case 3:
					return tx.Policies().Put(store.Policy{Policy: replication.Policy{Name: key, BytesPerSecond: random.Int64()}})
				case 4:
					return tx.Policies().Delete(key)
				case 5:
					return tx.Sites().Put(store.Site{Name: key, Address: fmt.Sprint(random.Int())})
				case 6:
					return tx.Sites().Delete(key)
				}
				return tx.Jobs().Put(store.Job{ID: key, State: []store.JobState{store.InProgress, store.Succeeded}[random.IntN(2)]})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if random.IntN(20) == 0 {
			st.Touch(store.Everything)
		}
		before := k.memory.kept
		copied := records{machines: slices.Clone(before.machines), policies: maps.Clone(before.policies), sites: maps.Clone(before.sites), unfinished: slices.Clone(before.unfinished)}
		got, err := k.records()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(before, copied) {
			t.Fatalf("seed %d, round %d: what a page holds was changed under it", seed, round)
		}
		var want records
		if err := st.View(func(tx *store.Tx) (err error) { want, err = readRecords(tx); return err }); err != nil {
			t.Fatal(err)
		}
		if len(got.machines)+len(want.machines) > 0 && !reflect.DeepEqual(got.machines, want.machines) || !reflect.DeepEqual(got.policies, want.policies) ||
			!reflect.DeepEqual(got.sites, want.sites) || len(got.unfinished)+len(want.unfinished) > 0 && !reflect.DeepEqual(got.unfinished, want.unfinished) {
			t.Fatalf("seed %d, round %d:\ngot  %+v\nwant %+v", seed, round, got, want)
		}
	}
}
