package setup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// Probe is what was measured of a folder.
type Probe struct {
	Folder     string        `json:"folder"`
	WriteSpeed float64       `json:"write_bytes_per_second"` // to the disk, not to a cache
	Sync       time.Duration `json:"sync"`                   // until a small write is durable, median
	Free       int64         `json:"free_bytes"`
	Total      int64         `json:"total_bytes"`
	Taken      time.Time     `json:"taken"`
}

const (
	// probeBytes are written: enough to see past the cache of a controller's queue,
	// and done in seconds on a slow disk.
	probeBytes = 64 << 20
	probeChunk = 1 << 20
	probeSyncs = 15
	// probeTime bounds the measuring; a slower disk is judged by what it did by then.
	probeTime = 15 * time.Second
	// minFree is what a vault needs to begin with.
	minFree = 1 << 30
)

// ProbeFolder measures a folder by writing to it, and removes what it wrote. The
// folder is made if need be.
//
// Problems: probe.folder, probe.full.
func ProbeFolder(ctx context.Context, folder string) (p Probe, err error) {
	p = Probe{Folder: folder, Taken: time.Now()}
	if !filepath.IsAbs(folder) {
		return p, &replication.Problem{Code: "probe.folder", Cause: fmt.Sprintf("the folder %q is no full path", folder), Effect: "nothing was changed", Action: "give it from the root", Remedy: replication.Stop}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return p, unfit(folder, err)
	}
	if space, err := vfs.OS().Space(folder); err == nil {
		p.Free, p.Total = space.Free, space.Total
		if p.Free < minFree {
			return p, &replication.Problem{Code: "probe.full", Cause: fmt.Sprintf("the disk of %s has only %d MiB free", folder, p.Free>>20), Effect: "nothing was changed",
				Action: "make room, or choose a folder on another disk", Remedy: replication.Stop}
		}
	}
	f, err := os.CreateTemp(folder, ".probe-*")
	if err != nil {
		return p, unfit(folder, err)
	}
	defer func() {
		if cleanErr := errors.Join(f.Close(), os.Remove(f.Name())); err == nil && cleanErr != nil {
			err = unfit(folder, cleanErr)
		}
	}()
	chunk := make([]byte, probeChunk)
	rand.Read(chunk) // so that no file system makes it smaller
	begin := time.Now()
	written := 0
	for ; written < probeBytes && time.Since(begin) < probeTime; written += probeChunk {
		if err := ctx.Err(); err != nil {
			return p, err
		}
		if _, err := f.Write(chunk); err != nil {
			return p, unfit(folder, err)
		}
	}
	if err := f.Sync(); err != nil {
		return p, unfit(folder, err)
	}
	p.WriteSpeed = float64(written) / time.Since(begin).Seconds()
	var waits []time.Duration
	for i := 0; i < probeSyncs && time.Since(begin) < 2*probeTime; i++ {
		at := time.Now()
		_, err := f.WriteAt(chunk[:4096], int64(i)*4096)
		if err := errors.Join(err, f.Sync()); err != nil {
			return p, unfit(folder, err)
		}
		waits = append(waits, time.Since(at))
	}
	slices.Sort(waits)
	p.Sync = waits[len(waits)/2]
	return p, nil
}

func unfit(folder string, err error) error {
	return &replication.Problem{Code: "probe.folder", Cause: fmt.Sprintf("the folder %s cannot be written: %v", folder, err), Effect: "nothing was changed",
		Action: "see that it exists, is not mounted read-only, and that the user of the daemon may write there", Remedy: replication.Stop, Err: err}
}
