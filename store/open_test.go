package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

// wantProblem checks that err is a problem of this code which a person can act on.
func wantProblem(t *testing.T, err error, code string) {
	t.Helper()
	p, ok := errors.AsType[*replication.Problem](err)
	if !ok {
		t.Errorf("got %v, want a problem %s", err, code)
		return
	}
	if p.Code != code || p.Cause == "" || p.Effect == "" || p.Action == "" {
		t.Errorf("got %s %q / %q / %q, want code %s and all three", p.Code, p.Cause, p.Effect, p.Action, code)
	}
	if strings.Count(err.Error(), p.Cause) > 1 {
		t.Errorf("the error says it twice: %s", err)
	}
}

// made gives the path of a closed store that holds a few records.
func made(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	st, err := store.Open(path, store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		update(t, st, func(tx *store.Tx) error {
			return errors.Join(
				tx.Sites().Put(store.Site{Name: fmt.Sprint("site ", i), Address: strings.Repeat("x", 900)}),
				tx.AddEvent(store.Event{Machine: "m-1", Text: strings.Repeat("y", 900)}))
		})
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFileIsOpenOnce(t *testing.T) {
	path := made(t)
	storetest.Reopen(t, path)
	began := time.Now()
	_, err := store.Open(path, store.Options{LockWait: 100 * time.Millisecond})
	wantProblem(t, err, "store.locked")
	if !strings.Contains(err.Error(), "another riparo daemon uses "+filepath.Dir(path)) {
		t.Errorf("got %q", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestTwoThatBeginAtTheSameTimeShareOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			st, err := store.Open(path, store.Options{LockWait: 30 * time.Second, NoSync: true})
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(store.Put(st, store.Sites, store.Site{Name: fmt.Sprint(i)}), st.Check(), st.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	sites, err := store.List(storetest.Reopen(t, path), store.Sites)
	if err != nil || len(sites) != 8 {
		t.Errorf("%d of 8 sites are there, %v", len(sites), err)
	}
	alone(t, path)
}

func TestAFreshFileIsOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	// What a crash during the first start left.
	left := filepath.Join(filepath.Dir(path), ".state.db.new-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	hours := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(left, hours, hours); err != nil {
		t.Fatal(err)
	}
	storetest.Reopen(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode %s, want 0600", info.Mode())
	}
	alone(t, path)
}

func TestAClosedStoreSaysSo(t *testing.T) {
	st := storetest.Open(t)
	for range 2 {
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, err := range map[string]error{
		"view":   st.View(func(*store.Tx) error { return nil }),
		"update": st.Update(func(*store.Tx) error { return nil }),
		"backup": st.Backup(nil),
		"check":  st.Check(),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
}

func TestWhatIsNoStateFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := filepath.Join(dir, "foreign.db")
	db, err := bolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"empty":   write("empty.db", nil),
		"text":    write("text.db", []byte(strings.Repeat("not a database ", 5000))),
		"short":   write("short.db", []byte("x")),
		"zeroes":  write("zeroes.db", make([]byte, 1<<16)),
		"foreign": foreign,
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(path)
			_, err := store.Open(path, store.Options{})
			wantProblem(t, err, "store.damaged")
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
	if _, err := store.Open(dir, store.Options{}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder: got %v, want an error that names it", err)
	}
	if _, err := store.Open(filepath.Join(dir, "no", "state.db"), store.Options{}); err == nil {
		t.Error("a folder that is not there: opened")
	}
}

func TestAFileThatWasCutIsDamagedWhereverItWasCut(t *testing.T) {
	path := made(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What bbolt keeps in reserve behind the last page may go.
	used := len(whole)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bolt.Tx) error { used = int(tx.Size()); return nil })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 100, 4096, 5000, 8192, 16384, used / 2, used - 4096, used - 1} {
		cut := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(cut, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := store.Open(cut, store.Options{})
		if err == nil {
			t.Errorf("cut to %d of %d bytes: opened", size, used)
			st.Close()
			continue
		}
		wantProblem(t, err, "store.damaged")
	}
}

// A spoiled page that is in use is found when the file is opened, or it does no
// harm: what is read is what was written. STORE_SPOIL sets the number of tries.
func TestASpoiledPageIsFoundOrHarmless(t *testing.T) {
	path := made(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := content(t, path)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	// Not in the two first pages: damage of the newer one is what a write that was
	// cut off leaves too, and bbolt goes back to the older one.
	const first, sector, page = 2 * 4096, 512, 4096
	ways := []struct {
		name  string
		spoil func(file []byte)
	}{
		{"changed bit", func(f []byte) { f[random.IntN(len(f))] ^= 1 << random.IntN(8) }},
		{"changed byte of a page's head", func(f []byte) { f[random.IntN(len(f)/page)*page+random.IntN(64)] = byte(random.Uint32()) }},
		{"zeroed sector", func(f []byte) { clear(f[random.IntN(len(f)/sector)*sector:][:sector]) }},
		{"sector of junk", func(f []byte) {
			s := f[random.IntN(len(f)/sector)*sector:][:sector]
			for i := range s {
				s[i] = byte(random.Uint32())
			}
		}},
		{"page written to another place", func(f []byte) {
			copy(f[random.IntN(len(f)/page)*page:][:page], f[random.IntN(len(f)/page)*page:])
		}},
	}
	tries := 300
	if text := os.Getenv("STORE_SPOIL"); text != "" {
		if tries, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	found, harmless := map[string]int{}, map[string]int{}
	spoiled := filepath.Join(t.TempDir(), "state.db")
	for i := range tries {
		way := ways[i%len(ways)]
		file := slices.Clone(whole)
		way.spoil(file[first:])
		if err := os.WriteFile(spoiled, file, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := store.Open(spoiled, store.Options{NoSync: true})
		if err != nil {
			found[way.name]++
			wantProblem(t, err, "store.damaged")
			continue
		}
		if err := errors.Join(st.Check(), st.Close()); err != nil {
			t.Errorf("seed %d, try %d, %s: Open found nothing, Check did: %v", seed, i, way.name, err)
		}
		harmless[way.name]++
		if got := content(t, spoiled); got != want {
			t.Errorf("seed %d, try %d, %s: nothing was found and the content differs", seed, i, way.name)
		}
	}
	t.Logf("found: %v; in space not in use: %v", found, harmless)
}

// content is all sites and events of a store as text.
func content(t *testing.T, path string) string {
	t.Helper()
	st, err := store.Open(path, store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	sites, err1 := store.List(st, store.Sites)
	events, err2 := store.List(st, store.Events)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(sites, events)
}

func TestAFullStoreRefusesAndGoesOnWhenThereIsRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	st, err := store.Open(path, store.Options{MaxBytes: 1 << 20, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	put := func(i int) error {
		return store.Put(st, store.Sites, store.Site{Name: fmt.Sprintf("%04d", i), Address: strings.Repeat("x", 20_000)})
	}
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = put(n)
	}
	wantProblem(t, err, "store.full")
	if replication.RemedyFor(err) != replication.Retry {
		t.Errorf("remedy %s, want retry", replication.RemedyFor(err))
	}
	last := n - 1
	if _, err := store.Get(st, store.Sites, fmt.Sprintf("%04d", last)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the record that was refused: %v", err)
	}
	for i := range last / 2 {
		if err := store.Delete(st, store.Sites, fmt.Sprintf("%04d", i)); err != nil {
			t.Fatalf("delete in a full store: %v", err)
		}
	}
	if err := put(last); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := st.Check(); err != nil {
		t.Error(err)
	}
}
