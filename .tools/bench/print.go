package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// spread is a median with the least and the most.
func spread(values []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(values), slices.Min(values), slices.Max(values))
}

// milliseconds is the spread of what takes a fraction of a second.
func milliseconds(seconds []float64) string {
	return fmt.Sprintf("%.0f (%.0f–%.0f)", 1000*median(seconds), 1000*slices.Min(seconds), 1000*slices.Max(seconds))
}

// columns fills in a format once for each name.
func columns(names []string, format string) string {
	var out strings.Builder
	for _, name := range names {
		fmt.Fprintf(&out, format, name)
	}
	return out.String()
}

// print writes Markdown as the README has it.
func (b *bench) print(w io.Writer) {
	m := b.machine
	fmt.Fprintf(w, "Measured on %s by `./build.sh bench` in %.0f minutes: %s, %d cores, %s, %s, %s; %s. Peers: %s.\n\n", m.Date, time.Since(b.began).Minutes(), m.Processor, m.Cores, m.Memory, m.System, m.FileSystem, m.Riparo, strings.Join(m.Peers, "; "))
	fmt.Fprintf(w, "W1 is a disk of %d MiB with about %d MiB of data, real files and generated ones; W2 is the same disk after a day; W3 is a database of %d MiB of which 1 %% (a) or 5 %% (b) of the pages changed. Medians of %d rounds (least–most), or of as many as there was time for. A ratio is paired within its round: above 1, it takes longer than Riparo with LZ4, MinLZ or zstd. CPU counts all processes, the peak is that of the largest one.\n", b.scale.size>>20, b.scale.data>>20, b.scale.database>>20, b.scale.rounds)
	for _, r := range b.results {
		fmt.Fprintf(w, "\n**%s**\n\n", r.Work)
		var ours []string
		for _, c := range r.Contestants {
			if c.Ours {
				ours = append(ours, c.Name)
			}
		}
		if len(r.Contestants) > 0 {
			fmt.Fprintf(w, "| | seconds | CPU s | peak MiB | MiB stored or sent |%s\n|---|---|---|---|---|%s\n", columns(ours, " time by that of %s |"), strings.Repeat("---|", len(ours)))
		}
		for _, c := range r.Contestants {
			ratio, size := "", ""
			for _, name := range ours {
				ratio += " "
				if len(c.Ratios[name]) > 0 {
					ratio += spread(c.Ratios[name])
				}
				ratio += " |"
			}
			if c.Bytes > 0 {
				size = fmt.Sprintf("%.1f", float64(c.Bytes)/(1<<20))
			}
			fmt.Fprintf(w, "| %s | %s | %.2f | %d | %s |%s\n", c.Name, spread(c.Seconds), median(c.CPU), c.PeakMiB, size, ratio)
		}
		for _, l := range r.LeftOut {
			fmt.Fprintf(w, "\nLeft out: %s.\n", l)
		}
	}
	b.printCosts(w)
	if len(b.grown) > 0 {
		fmt.Fprintf(w, "\n**100 changed blocks of 64 KiB, and none, on larger and larger disks that are nearly empty**\n\n")
		fmt.Fprintf(w, "| disk | read, bytes | changed, bytes | stored, bytes | ms | none changed: read, bytes | ms |\n|---|---|---|---|---|---|---|\n")
	}
	for _, g := range b.grown {
		fmt.Fprintf(w, "| %d GiB | %d | %d | %d | %s | %d | %s |\n", g.GiB, g.ReadBytes, g.ChangedBytes, g.StoredBytes, milliseconds(g.Seconds), g.IdleReadBytes, milliseconds(g.IdleSeconds))
	}
	if len(b.aged) > 0 {
		fmt.Fprintf(w, "\n**The first 4 KiB of a point of a disk with more and more points, through NBD, from the start of the program on**\n\n")
		fmt.Fprintf(w, "| points | oldest, ms | middle, ms | newest, ms | start of the program alone, ms |\n|---|---|---|---|---|\n")
	}
	for _, a := range b.aged {
		fmt.Fprintf(w, "| %d |", a.Points)
		for _, took := range [][]float64{a.First["oldest"], a.First["middle"], a.First["newest"], a.Start} {
			fmt.Fprintf(w, " %s |", milliseconds(took))
		}
		fmt.Fprintln(w)
	}
}
