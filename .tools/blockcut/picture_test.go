package blockcut

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestAPictureIsItsDisk: it is read from a file and written to another as if it were all
// its bytes, and a copy does not see what is written to the other.
func TestAPictureIsItsDisk(t *testing.T) {
	const size = 5*pageBytes + 1000
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 4))
		disk := make([]byte, size)
		copy(disk[r.IntN(size):], "written before")
		if err := os.WriteFile(first, disk, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := pictureOf(first)
		if err != nil {
			t.Fatal(err)
		}
		before := p.clone()
		changed := bytes.Clone(disk)
		for range 1 + r.IntN(8) {
			at := r.IntN(size)
			content := bytes.Repeat([]byte{byte(r.IntN(3))}, r.IntN(size-at)+1)
			p.write(content, int64(at))
			copy(changed[at:], content)
		}
		for _, look := range []struct {
			p    *picture
			want []byte
		}{{p, changed}, {before, disk}} {
			if err := look.p.save(second); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(second); err != nil || !bytes.Equal(got, look.want) {
				t.Fatalf("seed %d: the file is another disk (%d bytes, want %d): %v", seed, len(got), size, err)
			}
		}
	}
}
