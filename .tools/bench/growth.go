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
	GiB           int64     `json:"gib"`
	ReadBytes     int64     `json:"read_bytes"`
	ChangedBytes  int64     `json:"changed_bytes"`
	StoredBytes   int64     `json:"stored_bytes"`
	Seconds       []float64 `json:"seconds"` // the whole command, opening the vault included
	IdleReadBytes int64     `json:"idle_read_bytes"`
	IdleSeconds   []float64 `json:"idle_seconds"`

	image, list, vault string
}

const (
	growBlocks = 100
	growBlock  = 64 << 10
	// growRounds are cheap, as [ageRounds] are. In each of them all sizes have their turn,
	// so that a machine that becomes slower does so for all of them.
	growRounds = 9
)

// growth measures a delta of 100 blocks of 64 KiB, and one of nothing, on disks that
// are nearly empty: 64 MiB of data, spread evenly.
func (b *bench) growth() error {
	folder := b.path("grow")
	defer os.RemoveAll(folder)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	for _, gib := range b.scale.grow {
		g := growth{GiB: gib}
		g.image, g.list, g.vault = fmt.Sprintf("%s/%d.raw", folder, gib), fmt.Sprintf("%s/%d.changed", folder, gib), fmt.Sprintf("%s/%d.vault", folder, gib)
		if err := scatter(g.image, gib<<30, 64, 1<<20, seed, nil); err != nil {
			return err
		}
		if _, _, err := b.grow(&g); err != nil {
			return fmt.Errorf("replicate %d GiB: %w", gib, err)
		}
		b.grown = append(b.grown, g)
	}
	for round := range uint64(growRounds + 1) {
		fmt.Fprintf(os.Stderr, "%5.0f s  measuring: the same change on %v GiB\n", time.Since(b.began).Seconds(), b.scale.grow)
		for i := range b.grown {
			if err := b.growOnce(&b.grown[i], round); err != nil {
				return fmt.Errorf("replicate %d GiB: %w", b.grown[i].GiB, err)
			}
		}
	}
	return nil
}

// growOnce replicates a change and none. The first round warms up and is not counted.
func (b *bench) growOnce(g *growth, round uint64) error {
	var edits []extent
	if err := scatter(g.image, g.GiB<<30, growBlocks, growBlock, seed+1+round, &edits); err != nil {
		return err
	}
	if err := writeList(g.list, edits); err != nil {
		return err
	}
	told, took, err := b.grow(g, "--changed", g.list)
	if err != nil {
		return err
	}
	if err := os.WriteFile(g.list, nil, 0o600); err != nil {
		return err
	}
	idle, idleTook, err := b.grow(g, "--changed", g.list)
	if err != nil || round == 0 {
		return err
	}
	g.ReadBytes, g.ChangedBytes, g.StoredBytes, g.IdleReadBytes = told.Read, told.Changed, told.Stored, idle.Read
	g.Seconds, g.IdleSeconds = append(g.Seconds, took), append(g.IdleSeconds, idleTook)
	return nil
}

// replicated is what the program says about a replication.
type replicated struct {
	Read    int64 `json:"read_bytes"`
	Changed int64 `json:"changed_bytes"`
	Stored  int64 `json:"stored_bytes"`
}

// grow replicates the disk, and tells how long that took.
func (b *bench) grow(g *growth, more ...string) (told replicated, seconds float64, err error) {
	c := exec.Command(b.program, append([]string{"disk", "replicate", g.image, "--vault", g.vault, "--disk", "d", "--json"}, more...)...)
	c.Env = append(os.Environ(), b.ownKey())
	began := time.Now()
	out, err := c.Output()
	seconds = time.Since(began).Seconds()
	if err != nil {
		return told, 0, fmt.Errorf("%w: %s", err, out)
	}
	return told, seconds, json.Unmarshal(out, &told)
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
