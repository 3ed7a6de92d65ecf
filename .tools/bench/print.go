package main

import (
	"fmt"
	"io"
	"slices"
)

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (b *bench) print(w io.Writer) {
	fmt.Fprintf(w, "An image of %d MiB with %d MiB of data, %d rounds, medians (least–most). A ratio above 1 means slower than riparo.\n", b.scale.size>>20, b.scale.data>>20, b.scale.rounds)
	for _, r := range b.results {
		fmt.Fprintf(w, "\n%s\n", r.Work)
		fmt.Fprintf(w, "  %-36s %22s %8s %9s  %s\n", "", "seconds", "CPU s", "peak MiB", "time by riparo's")
		for _, c := range r.Contestants {
			ratio := ""
			if len(c.Ratios) > 0 {
				ratio = fmt.Sprintf("%.2f (%.2f–%.2f)", median(c.Ratios), slices.Min(c.Ratios), slices.Max(c.Ratios))
			}
			times := fmt.Sprintf("%.2f (%.2f–%.2f)", median(c.Seconds), slices.Min(c.Seconds), slices.Max(c.Seconds))
			fmt.Fprintf(w, "  %-36s %22s %8.2f %9d  %s\n", c.Name, times, median(c.CPU), c.PeakMiB, ratio)
		}
		for _, l := range r.LeftOut {
			fmt.Fprintf(w, "  %s\n", l)
		}
	}
	fmt.Fprintf(w, "\n100 changed blocks of 64 KiB, and none, on larger and larger disks\n")
	fmt.Fprintf(w, "  %8s %12s %12s %12s %10s %14s\n", "disk", "read", "changed", "stored", "seconds", "none, seconds")
	for _, g := range b.grown {
		fmt.Fprintf(w, "  %4d GiB %12d %12d %12d %10.3f %14.3f\n", g.GiB, g.ReadBytes, g.ChangedBytes, g.StoredBytes, g.Seconds, g.IdleSeconds)
	}
}
