package lab_test

import (
	"bytes"
	"testing"

	"github.com/pierrec/lz4/v4"

	"riparo/hypervisor/lab"
)

func TestInitialContentIsAsMuchAsAskedFor(t *testing.T) {
	for _, c := range []struct{ size, initial int64 }{
		{1 * mib, 0}, {1 * mib, mib / 2}, {64 * mib, 10 * mib}, {100 * mib, 100 * mib}, {64 * mib, 1},
	} {
		content := lab.Initial(7, c.size, c.initial)
		filled := int64(0)
		for at := 0; at < len(content); at += lab.BlockSize {
			if !bytes.Equal(content[at:at+lab.BlockSize], make([]byte, lab.BlockSize)) {
				filled += lab.BlockSize
			}
		}
		// One block in eight of the content is empty, and a cluster is 256 KiB.
		low, high := c.initial*3/4-mib/4, c.initial+mib/4
		if filled < low || filled > high || c.initial == 0 && filled > 0 {
			t.Errorf("a disk of %d bytes with %d at first has %d filled: want %d to %d", c.size, c.initial, filled, low, high)
		}
	}
}

func TestContentIsPartlyCompressible(t *testing.T) {
	initial := lab.Initial(7, 16*mib, 16*mib)
	var written []byte
	for sequence := range uint64(1000) {
		written = append(written, lab.Written(7, sequence)...)
	}
	for what, content := range map[string][]byte{"initial": initial, "written": written} {
		compressed := make([]byte, lz4.CompressBlockBound(len(content)))
		n, err := lz4.CompressBlock(content, compressed, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ratio := float64(len(content)) / float64(n); ratio < 1.3 || ratio > 3 {
			t.Errorf("%s content compresses by %.2f: want some, as real disks do", what, ratio)
		}
	}
}

func TestEveryWriteHasContentOfItsOwn(t *testing.T) {
	seen := map[string]uint64{}
	for sequence := uint64(1); sequence < 3000; sequence++ {
		content := string(lab.Written(7, sequence)[48:])
		if other, ok := seen[content]; ok {
			t.Fatalf("sequences %d and %d write the same bytes behind their headers", other, sequence)
		}
		seen[content] = sequence
	}
}
