package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// growth is the cost of the same change on a disk of some size.
type growth struct {
	GiB           int64   `json:"gib"`
	ReadBytes     int64   `json:"read_bytes"`
	ChangedBytes  int64   `json:"changed_bytes"`
	StoredBytes   int64   `json:"stored_bytes"`
	Seconds       float64 `json:"seconds"` // the whole command, opening the vault included
	IdleReadBytes int64   `json:"idle_read_bytes"`
	IdleSeconds   float64 `json:"idle_seconds"`
}

const (
	growBlocks = 100
	growBlock  = 64 << 10
)

// growth measures a delta of 100 blocks of 64 KiB, and one of nothing, on disks that
// are nearly empty: 64 MiB of data, spread evenly.
func (b *bench) growth() error {
	for _, gib := range b.scale.grow {
		fmt.Fprintf(os.Stderr, "%5.0f s  measuring: the same change on %d GiB\n", time.Since(b.began).Seconds(), gib)
		g, err := b.grow(gib)
		if err != nil {
			return fmt.Errorf("replicate %d GiB: %w", gib, err)
		}
		b.grown = append(b.grown, g)
	}
	return nil
}

func (b *bench) grow(gib int64) (g growth, err error) {
	image, list, vault := b.path("grow.raw"), b.path("grow.changed"), b.path("grow.vault")
	defer func() {
		for _, path := range []string{image, list, vault} {
			if e := os.RemoveAll(path); err == nil {
				err = e
			}
		}
	}()
	replicate := func(more ...string) (growth, error) {
		g := growth{GiB: gib}
		began := time.Now()
		c := exec.Command(b.program, append([]string{"disk", "replicate", image, "--vault", vault, "--disk", "d", "--json"}, more...)...)
		c.Env = append(os.Environ(), b.ownKey())
		out, err := c.Output()
		if err != nil {
			return g, fmt.Errorf("%w: %s", err, out)
		}
		err = json.Unmarshal(out, &g)
		g.Seconds = time.Since(began).Seconds()
		return g, err
	}
	if err := scatter(image, gib<<30, 64, 1<<20, seed, nil); err != nil {
		return g, err
	}
	if _, err := replicate(); err != nil {
		return g, err
	}
	var edits []extent
	if err := scatter(image, gib<<30, growBlocks, growBlock, seed+1, &edits); err != nil {
		return g, err
	}
	if err := writeList(list, edits); err != nil {
		return g, err
	}
	if g, err = replicate("--changed", list); err != nil {
		return g, err
	}
	if err := os.WriteFile(list, nil, 0o600); err != nil {
		return g, err
	}
	idle, err := replicate("--changed", list)
	g.IdleReadBytes, g.IdleSeconds = idle.ReadBytes, idle.Seconds
	return g, err
}

// scatter writes blocks of noise spread evenly over an image, each at a random place
// of its part.
func scatter(path string, size int64, blocks int, length int64, seed uint64, edits *[]extent) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	r := randomOf(seed, "scatter")
	part := size / int64(blocks)
	p := make([]byte, length)
	for i := range int64(blocks) {
		at := (i*part + r.Int64N(max(part-2*length, 1))) / length * length
		noise(r, p)
		if _, err := f.WriteAt(p, at); err != nil {
			return err
		}
		if edits != nil {
			*edits = append(*edits, extent{at, length})
		}
	}
	return f.Sync()
}
