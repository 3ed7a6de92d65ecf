package vault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// kindsOfContent are blocks as disks have them, of several lengths.
func kindsOfContent() map[string][]byte {
	r := rand.New(rand.NewPCG(8, 9))
	kinds := map[string][]byte{}
	for _, n := range []int{1, 17, 4096, blockBytes - 1, blockBytes} {
		noise, text := make([]byte, n), make([]byte, 0, n+64)
		fillNoise(noise, uint64(n))
		for len(text) < n {
			text = fmt.Appendf(text, "10.0.0.%d GET /invoice/%d 200\n", r.IntN(256), r.IntN(1000))
		}
		kinds[fmt.Sprintf("noise of %d bytes", n)] = noise
		kinds[fmt.Sprintf("text of %d bytes", n)] = text[:n]
		kinds[fmt.Sprintf("one byte %d times", n)] = bytes.Repeat([]byte{7}, n)
	}
	return kinds
}

func TestEveryCompressionGivesBackWhatItWasGiven(t *testing.T) {
	for _, kind := range Compressions {
		t.Run(string(kind), func(t *testing.T) {
			for name, data := range kindsOfContent() {
				c, err := encode(kind.codec(), nil, []replication.Change{{Extent: replication.Extent{Length: int64(len(data))}, Data: data}})
				if err != nil || len(c.table) != 1 {
					t.Fatalf("%s: %d blocks, %v", name, len(c.table), err)
				}
				r := c.table[0]
				if compresses := len(data) > 1000 && data[0] != 0 && name[0] != 'n'; compresses && (r.codec != kind.codec() || int(r.stored) > len(data)/2) {
					t.Errorf("%s: stored by codec %d in %d bytes, want codec %d and less than half", name, r.codec, r.stored, kind.codec())
				}
				if name[0] == 'n' && r.codec != codecRaw {
					t.Errorf("%s: stored by codec %d, want raw", name, r.codec)
				}
				got := make([]byte, len(data))
				e := entry{codec: r.codec}
				if err := e.decode(got, c.payload); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: it came back different, or not at all: %v", name, err)
				}
				// A block is as long as its row says, or damaged.
				if err := e.decode(make([]byte, len(data)+1), c.payload); err == nil {
					t.Errorf("%s: a block of another length was accepted", name)
				}
			}
		})
	}
}

// A vault may be opened with another compression each time.
func TestAVaultHoldsBlocksOfAllCompressions(t *testing.T) {
	const size = 8 * blockBytes
	dir := t.TempDir()
	disk := make([]byte, size)
	stored := map[Compression]int64{}
	text := []byte{}
	for i := 0; len(text) < 2*blockBytes; i++ {
		text = fmt.Appendf(text, "%x user %d wrote %d bytes\n", i*i*2654435761, i%97, i*i%8191)
	}
	for i, kind := range Compressions {
		v := open(t, vfs.OS(), dir, Options{Compression: kind, manual: true})
		state, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: size}, 1)
		if err != nil {
			t.Fatal(err)
		}
		at := int64(i) * 2 * blockBytes
		copy(disk[at:], text[:2*blockBytes])
		b := replication.Batch{Disk: "d", Epoch: 1, Sequence: state.Sequence + 1, Changes: []replication.Change{{Extent: replication.Extent{Offset: at, Length: 2 * blockBytes}, Data: disk[at:][:2*blockBytes]}}}
		if err := v.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := v.Mark(t.Context(), replication.Mark{Disk: "d", Epoch: 1, Sequence: b.Sequence + 1, Point: replication.PointID(kind), Time: time.Unix(int64(i), 0), Size: size}); err != nil {
			t.Fatal(err)
		}
		points, err := v.Points("d")
		if err != nil {
			t.Fatal(err)
		}
		stored[kind] = points[len(points)-1].StoredBytes
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if stored[Zstd] >= stored[LZ4] {
		t.Errorf("zstd stored %d bytes and LZ4 %d: want less", stored[Zstd], stored[LZ4])
	}
	v := open(t, vfs.OS(), dir, Options{ReadOnly: true})
	if got, want := v.version(), uint32(formatVersion); got != want {
		t.Errorf("the vault has version %d, want %d: an older program must not touch it", got, want)
	}
	view, err := v.View(t.Context(), "d", replication.PointID(Zstd))
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	got := make([]byte, size)
	if _, err := view.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("the point differs, or: %v", err)
	}
	soundReport(t, v)
}

func TestCompressionsHaveNames(t *testing.T) {
	for _, kind := range Compressions {
		if got, err := ParseCompression(string(kind)); got != kind || err != nil {
			t.Errorf("ParseCompression(%q) = %q, %v", kind, got, err)
		}
	}
	if _, err := ParseCompression("gzip"); err == nil {
		t.Error("ParseCompression(gzip): want an error")
	}
}

// FuzzBlock decodes whatever a disk may give back.
func FuzzBlock(f *testing.F) {
	for _, kind := range Compressions {
		for _, data := range kindsOfContent() {
			c, err := encode(kind.codec(), nil, []replication.Change{{Extent: replication.Extent{Length: int64(len(data))}, Data: data}})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(c.table[0].codec), uint32(len(data)), c.payload)
		}
	}
	f.Fuzz(func(t *testing.T, by byte, plain uint32, stored []byte) {
		if plain > blockBytes {
			return // no row says so
		}
		behind := []byte("behind the block")
		p := append(make([]byte, plain), behind...)
		e := entry{codec: codec(by)}
		_ = e.decode(p[:plain], stored) // damage is an error, and the checksum tells
		if !bytes.Equal(p[plain:], behind) {
			t.Errorf("codec %d wrote behind a block of %d bytes", by, plain)
		}
	})
}
