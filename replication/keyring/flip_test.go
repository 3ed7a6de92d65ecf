package keyring

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"riparo/replication/proof"
)

// TestNoBitFlipOfKeysIsSilent changes one bit of a key file and one of an escrow, again
// and again: it is refused, or holds the same keys of the same time. RIPARO_FLIPS sets
// how often.
func TestNoBitFlipOfKeysIsSilent(t *testing.T) {
	old := scryptCost
	scryptCost = 1
	defer func() { scryptCost = old }()
	want := proof.Times(t, "RIPARO_FLIPS", 1000)
	for format, of := range map[string]struct {
		write func(*Ring) ([]byte, error)
		read  func([]byte) (*Ring, error)
	}{
		"key file": {(*Ring).file, parseFile},
		"escrow": {
			func(r *Ring) ([]byte, error) { return r.Export(sentence) },
			func(p []byte) (*Ring, error) { return Import(p, sentence) }},
	} {
		t.Run(format, func(t *testing.T) {
			refused := 0
			var r *Ring
			var file []byte
			for flips := range want {
				random := rand.New(rand.NewPCG(uint64(flips), 1))
				if flips%200 == 0 {
					r = newRing(t)
					for range random.IntN(4) {
						r = with(t, r)
					}
					var err error
					if file, err = of.write(r); err != nil {
						t.Fatal(err)
					}
				}
				p := bytes.Clone(file)
				bit := random.IntN(8 * len(p))
				p[bit/8] ^= 1 << (bit % 8)
				switch got, err := of.read(p); {
				case err != nil:
					refused++
				case !bytes.Equal(got.text(), r.text()):
					t.Fatalf("flip %d, bit %d of byte %d: SILENT: other keys are read\n%s", flips, bit%8, bit/8, p)
				}
			}
			if refused < want/2 {
				t.Errorf("%d of %d flips were refused, want half of them or more", refused, want)
			}
			t.Logf("%d bit flips, 0 silent: %d refused, %d change nothing", want, refused, want-refused)
		})
	}
}
