package store_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"riparo/replication/proof"
	"riparo/store"
)

// TestNoBitFlipOfTheStateFileIsSilent changes one bit of a state file, again and again:
// it is refused, or holds what it held. The two first pages are left out: one of them
// that is not whole is what a write leaves that was cut off, and the file goes back to
// the other, one change earlier. RIPARO_FLIPS sets how often.
func TestNoBitFlipOfTheStateFileIsSilent(t *testing.T) {
	want := proof.Times(t, "RIPARO_FLIPS", 1000)
	path := made(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	held := content(t, path)
	const first = 2 * 4096
	spoiled := filepath.Join(t.TempDir(), "state.db")
	refused := 0
	for flip := range want {
		random := rand.New(rand.NewPCG(uint64(flip), 1))
		at := first + random.IntN(len(whole)-first)
		for range 20 { // most of a young file is empty
			if whole[at] != 0 {
				break
			}
			at = first + random.IntN(len(whole)-first)
		}
		file := slices.Clone(whole)
		file[at] ^= 1 << random.IntN(8)
		if err := os.WriteFile(spoiled, file, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := store.Open(spoiled, store.Options{NoSync: true})
		if err != nil {
			wantProblem(t, err, "store.damaged")
			refused++
			continue
		}
		if err := errors.Join(st.Check(), st.Close()); err != nil {
			t.Errorf("flip %d, byte %d: opened without a word, and then: %v", flip, at, err)
		}
		if content(t, spoiled) != held {
			t.Fatalf("flip %d, byte %d: SILENT: another content is read", flip, at)
		}
	}
	if refused < want/4 {
		t.Errorf("%d of %d flips were refused, want a quarter of them or more", refused, want)
	}
	t.Logf("state file: %d bit flips, 0 silent: %d refused to open, %d change nothing", want, refused, want-refused)
}
