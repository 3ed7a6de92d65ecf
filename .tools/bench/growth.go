package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// growth is the cost of the same change on a disk of some size.
type growth struct {
	GiB          int64   `json:"gib"`
	ReadBytes    int64   `json:"read_bytes"`
	ChangedBytes int64   `json:"changed_bytes"`
	StoredBytes  int64   `json:"stored_bytes"`
	Seconds      float64 `json:"seconds"` // the whole command, opening the vault included
	IdleSeconds  float64 `json:"idle_seconds"`
}

// growth measures a delta of 100 blocks of 64 KiB, and one of nothing, on disks of
// 1, 16 and 64 GiB that are nearly empty.
func (b *bench) growth() error {
	fmt.Fprintln(os.Stderr, "measuring: the same change on larger disks")
	for _, gib := range []int64{1, 16, 64} {
		image, list, vault := b.path("grow.raw"), b.path("grow.changed"), b.path("grow.vault")
		if err := generate(image, gib<<30, 64<<20, 9); err != nil {
			return err
		}
		replicate := func(more ...string) (growth, error) {
			g := growth{GiB: gib}
			out, err := exec.Command(b.program, append([]string{"disk", "replicate", image, "--vault", vault, "--disk", "d", "--json"}, more...)...).Output()
			if err != nil {
				return g, fmt.Errorf("replicate %d GiB: %w: %s", gib, err, out)
			}
			return g, json.Unmarshal(out, &g)
		}
		if _, err := replicate(); err != nil {
			return err
		}
		if err := change(image, list, gib<<30, 100, 10); err != nil {
			return err
		}
		g, err := replicate("--changed", list)
		if err != nil {
			return err
		}
		if err := os.WriteFile(list, nil, 0o600); err != nil {
			return err
		}
		idle, err := replicate("--changed", list)
		if err != nil {
			return err
		}
		g.IdleSeconds = idle.Seconds
		b.grown = append(b.grown, g)
		for _, path := range []string{image, list, vault} {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}
