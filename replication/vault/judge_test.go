package vault

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// judged applies what a judge says to differ to the content it judged, and counts it.
func judged(t *testing.T, j replication.Judge, head, mine []byte, step int64) (different int64) {
	t.Helper()
	for at := int64(0); at < int64(len(mine)); at += step {
		e := replication.Extent{Offset: at, Length: min(step, int64(len(mine))-at)}
		content := mine[e.Offset:e.End()]
		if replication.IsZero(content) {
			content = nil
		}
		list, err := j.Differ(t.Context(), e, content)
		if err != nil {
			t.Fatal(err)
		}
		last := at
		for _, d := range list {
			if d.Offset < last || d.End() > e.End() || d.Length <= 0 {
				t.Fatalf("of %s, %s differs after %d", e, d, last)
			}
			last = d.End()
			different += d.Length
			copy(head[d.Offset:d.End()], mine[d.Offset:d.End()])
		}
	}
	return different
}

func TestAJudgeFindsAllThatDiffersAndLittleElse(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 7))
		v := open(t, vfs.NewSim(seed), "v", Options{})
		size := int64(3<<20 + r.IntN(200_000))
		s := newSender(t, v, "d", size)
		for range 12 { // whole blocks, parts of blocks, zeroes, in any order
			e := replication.Extent{Offset: r.Int64N(size/blockBytes) * blockBytes}
			e.Length = min([]int64{4096, blockBytes, 3 * blockBytes, 70_000}[r.IntN(4)], size-e.Offset)
			if r.IntN(4) == 0 {
				e.Offset += 8192
				e.Length = min(e.Length, size-e.Offset)
			}
			change := replication.Change{Extent: e}
			if r.IntN(4) > 0 {
				change.Data = make([]byte, e.Length)
				text(change.Data, r.Uint64())
			}
			s.write(change)
		}
		s.mark()
		mine := bytes.Clone(s.head)
		edits := r.IntN(20)
		for range edits {
			mine[r.Int64N(size)] ^= byte(1 + r.IntN(255))
		}
		clear(mine[:r.IntN(2)*blockBytes*3/2])
		j, err := v.Judge(t.Context(), "d")
		if err != nil {
			t.Fatal(err)
		}
		head := bytes.Clone(s.head)
		different := judged(t, j, head, mine, []int64{1 << 20, blockBytes, 12_288}[r.IntN(3)])
		if !bytes.Equal(head, mine) {
			t.Errorf("seed %d: what differs was not all told", seed)
		}
		if different > int64(edits)*judgeGrain+3*blockBytes {
			t.Errorf("seed %d: %d bytes are said to differ after %d edits", seed, different, edits)
		}
		if again := judged(t, j, head, s.head, 1<<20); again != 0 {
			t.Errorf("seed %d: %d bytes of the head differ from the head", seed, again)
		}
		if _, err := j.Differ(t.Context(), replication.Extent{Offset: size, Length: 1}, []byte{1}); err == nil {
			t.Error("an extent behind the end was compared")
		}
		if _, err := j.Differ(t.Context(), replication.Extent{Length: 5}, []byte{1}); err == nil {
			t.Error("one byte was compared with an extent of five")
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
