package backup

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"riparo/replication/proof"
)

// TestNoBitFlipOfABackupIsSilent changes one bit of a backup and restores it, again and
// again: it is refused, or brings back the same files. RIPARO_FLIPS sets how often.
func TestNoBitFlipOfABackupIsSilent(t *testing.T) {
	want := proof.Times(t, "RIPARO_FLIPS", 500)
	old := written(t, source(lived(t)))
	dir := filepath.Join(t.TempDir(), "restored")
	restore := func(p []byte) (h Header, files map[string]string, err error) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if h, err = extract(t.Context(), bytes.NewReader(p), passphrase, dir); err != nil {
			return h, nil, err
		}
		return h, contents(t, dir), nil
	}
	header, files, err := restore(old)
	if err != nil || len(files) != 4 {
		t.Fatalf("without a flip %d files come back, %v", len(files), err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	// What is before the archive is a tenth of it or so, and has no seal of its own.
	first := bytes.IndexByte(old, '\n') + 1
	head := first + bytes.IndexByte(old[first:], '\n') + 1
	refused := 0
	for flip := range want {
		bit := random.IntN(8 * len(old))
		if flip%3 == 0 {
			bit = random.IntN(8 * head)
		}
		p := bytes.Clone(old)
		p[bit/8] ^= 1 << (bit % 8)
		h, got, err := restore(p)
		switch {
		case err != nil:
			if c := code(err); c == "internal" || c == "" {
				t.Fatalf("bit %d of byte %d: %v, which is no problem that a person can solve", bit%8, bit/8, err)
			}
			refused++
		case !reflect.DeepEqual(h, header) || !reflect.DeepEqual(got, files):
			t.Fatalf("flip %d, bit %d of byte %d: SILENT: something else is restored: %+v", flip, bit%8, bit/8, h)
		}
	}
	if refused < want/2 {
		t.Errorf("%d of %d flips were refused, want half of them or more", refused, want)
	}
	t.Logf("backup: %d bit flips, 0 silent: %d refused, %d change nothing", want, refused, want-refused)
}

// contents are the files in a folder, by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
