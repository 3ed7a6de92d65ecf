package vault

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"riparo/replication/vfs"
)

// TestNoBitFlipIsSilent changes one bit of one file of a closed vault, opens it and
// reads everything. The bytes of every point must be what they were, or an error or
// Verify must say otherwise. RIPARO_FLIPS sets the number of flips.
func TestNoBitFlipIsSilent(t *testing.T) {
	flips := 600
	if text := os.Getenv("RIPARO_FLIPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("RIPARO_FLIPS: %v", err)
		}
		flips = n
	}
	const perVault = 100
	found := map[string]int{}
	for seed := uint64(1); flips > 0; seed++ {
		l := newLife(t.Context(), seed)
		l.calm = true
		if err := l.boot(); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			if err := l.step(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if err := l.reopen(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := l.vault.Close(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		r := rand.New(rand.NewPCG(seed, 11))
		for range perVault {
			name, bit := randomBit(l.disk, r)
			disk := l.disk.Clone()
			if err := disk.FlipBit(name, bit); err != nil {
				t.Fatal(err)
			}
			how, err := flipped(l, disk)
			if err != nil {
				t.Fatalf("seed %d: bit %d of %s: SILENT: %v", seed, bit, name, err)
			}
			kind := name[strings.LastIndexAny(name, `./\`)+1:]
			found[kind+": "+how]++
			flips--
		}
	}
	for kind, n := range found {
		t.Logf("%5d %s", n, kind)
	}
}

// randomBit chooses a bit of the files, every byte with the same chance but small
// files not too rarely.
func randomBit(disk *vfs.Sim, r *rand.Rand) (string, int64) {
	names, sizes := disk.Files()
	for {
		i := r.IntN(len(names))
		if sizes[i] > 0 {
			return names[i], r.Int64N(8 * sizes[i])
		}
	}
}

// flipped tells how the flip shows. The error is that of a flip that does not.
func flipped(l *life, disk *vfs.Sim) (string, error) {
	v, err := Open(l.ctx, disk, "v", l.options())
	if err != nil {
		return "refused to open", nil
	}
	defer v.Close()
	report, err := v.Verify(l.ctx, VerifyOptions{})
	if err != nil {
		return "refused to verify", nil
	}
	real := 0
	for _, d := range report.Damage {
		if !d.Harmless {
			real++
		}
	}
	err = l.model.matches(l.ctx, v)
	switch {
	case err == nil && len(report.Damage) == 0:
		return "no damage left", nil
	case err == nil && real == 0:
		return "verify reports damage to what is derived", nil
	case err == nil:
		return "verify reports damage that no point needs", nil
	case real > 0 && !strings.Contains(err.Error(), "MIXTURE"):
		return "verify reports damage", nil
	case hasCode(err, CodeIndex):
		return "reading reports a damaged map", nil
	}
	return "", err
}
