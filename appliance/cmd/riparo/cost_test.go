package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"riparo/replication"
)

// TestTheCostOfADeltaFollowsTheChangesNotTheDisk: 100 blocks of 64 KiB changed on
// disks of 1, 16 and 64 GiB. What is read and stored is exact; the time has room
// for a busy machine.
func TestTheCostOfADeltaFollowsTheChangesNotTheDisk(t *testing.T) {
	const (
		blocks, blockBytes = 100, 64 << 10
		limitBytes         = 8 << 20
		limitSeconds       = 10
	)
	table := &strings.Builder{}
	fmt.Fprintf(table, "%8s %14s %14s %14s %10s\n", "disk", "read", "changed", "stored", "seconds")
	for _, gib := range []int64{1, 16, 64} {
		rnd := rand.New(rand.NewPCG(15, uint64(gib)))
		size := gib << 30
		dir := t.TempDir()
		source := sparse(t, filepath.Join(dir, "a.raw"), size, map[int64][]byte{0: noise(rnd, 1<<20), size - 1<<20: noise(rnd, 1<<20)})
		vault := filepath.Join(dir, "vault")
		must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d")

		var dirty []replication.Extent
		for i := range int64(blocks) {
			at := (i*(size/blocks) + rnd.Int64N(size/blocks-2*blockBytes)) / blockBytes * blockBytes
			dirty = append(dirty, overwrite(t, source, at, noise(rnd, blockBytes)))
		}
		r := must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d", "--changed", lines(t, filepath.Join(dir, "changed"), dirty))
		fmt.Fprintf(table, "%5d GiB %14d %14d %14d %10.3f\n", gib, r.ReadBytes, r.ChangedBytes, r.StoredBytes, r.Seconds)
		if r.Mode != modeDelta || r.ReadBytes >= limitBytes || r.StoredBytes >= limitBytes || r.ChangedBytes != blocks*blockBytes {
			t.Errorf("%d GiB: got %+v, want %d bytes changed and less than %d read and stored", gib, r, blocks*blockBytes, limitBytes)
		}
		if r.Seconds > limitSeconds {
			t.Errorf("%d GiB: took %.1f s", gib, r.Seconds)
		}
		sameDisk(t, fmt.Sprintf("%d GiB", gib), exported(t, vault, r.Point), source)
	}
	t.Logf("\n%s", table)
}
