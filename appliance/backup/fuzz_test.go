package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"riparo/store"
)

// FuzzHeader reads the two lines that anybody may have written.
func FuzzHeader(f *testing.F) {
	text, err := json.Marshal(Header{Format: format, Schema: store.Schema(), Created: noon, Appliance: "a", Identity: []byte("key")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte("riparo backup 1\n"), append(text, '\n')...))
	f.Add([]byte("riparo backup 9\n{}\n"))
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := ReadHeader(bufio.NewReader(bytes.NewReader(p)))
		if err == nil && (h.Format != format || h.Schema < 1 || h.Schema > store.Schema()) {
			t.Fatalf("a header of format %d, schema %d passes", h.Format, h.Schema)
		}
	})
}

// FuzzArchive unpacks what a backup that was sealed with the right key may hold: no
// file comes to lie outside of the folder, and a size in a header is not memory.
func FuzzArchive(f *testing.F) {
	for _, name := range []string{stateName, pkiName + "/ca.key", "../outside", pkiName + "/../../x", manifestName} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: name, Size: 2, Mode: 0o600})
		w.Write([]byte("{}"))
		w.WriteHeader(&tar.Header{Name: manifestName, Size: 2, Mode: 0o600})
		w.Write([]byte("{}"))
		w.Close()
		f.Add(b.Bytes())
	}
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, p []byte) {
		dir := filepath.Join(root, "a", "b", "c")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		found, _, err := unpack(tar.NewReader(bytes.NewReader(p)), dir)
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 16<<20+64*uint64(len(p)) {
			t.Fatalf("%d bytes of memory for an archive of %d", spent, len(p))
		}
		err2 := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && !within(dir, path) {
				t.Errorf("%s lies outside of the folder", path)
			}
			return err
		})
		if err := errors.Join(err2, os.RemoveAll(filepath.Join(root, "a"))); err != nil {
			t.Fatal(err)
		}
		for _, one := range found {
			if !belongs(one.Name) {
				t.Fatalf("%q was unpacked, error %v", one.Name, err)
			}
		}
	})
}

func within(dir, path string) bool {
	to, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(to)
}
