package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

// generate makes a sparse image that is like a disk in use: runs of text that
// compresses about 3:1, of random bytes as media have them, and of holes. The same
// seed makes the same image.
func generate(path string, size, data int64, seed uint64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	const run = 1 << 20
	words := strings.Fields("recovery point replication vault segment layer mark epoch sequence extent failover commit reverse network policy journal 2026-11-23T05:13:19Z INFO WARN disk=web01.vda bytes=65536 0x7f3a 10.20.0.17")
	step := size / (data / run)
	block := make([]byte, 0, run+64)
	for at := int64(0); at+run <= size; at += step / 4096 * 4096 {
		block = block[:0]
		switch kind := rnd.IntN(5); {
		case kind < 2:
			for len(block) < run {
				for i, v := 0, rnd.Uint64(); i < 8; i++ {
					block = append(block, byte(v>>(8*i)))
				}
			}
		default:
			for len(block) < run {
				block = append(block, words[rnd.IntN(len(words))]...)
				block = fmt.Appendf(block, " %d ", rnd.IntN(1000))
			}
		}
		if _, err := f.WriteAt(block[:run], at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// change overwrites blocks of 64 KiB, spread over the image, and writes the list of
// them as `disk replicate --changed` takes it.
func change(path, list string, size int64, blocks int, seed uint64) error {
	const length = 64 << 10
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	rnd := rand.New(rand.NewPCG(seed, 2))
	var lines strings.Builder
	part := size / int64(blocks)
	b := make([]byte, length)
	for i := range int64(blocks) {
		at := (i*part + rnd.Int64N(part-2*length)) / length * length
		for k := 0; k < length; k += 8 {
			for j, v := 0, rnd.Uint64(); j < 8; j++ {
				b[k+j] = byte(v >> (8 * j))
			}
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
		fmt.Fprintf(&lines, "{\"offset\":%d,\"length\":%d}\n", at, length)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.WriteFile(list, []byte(lines.String()), 0o600)
}
