package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// One core and many find the same and tell it in the same order: damage of several
// disks and of many small segments each.
func TestVerifyTellsTheSameOnAnyNumberOfCores(t *testing.T) {
	disk := vfs.NewSim(4)
	v := open(t, disk, "v", Options{segmentBytes: 32 << 10})
	want := 0
	for i, id := range []replication.DiskID{"a", "b", "c"} {
		s := newSender(t, v, id, 4<<20)
		for at := range int64(16) {
			s.write(change(at<<18, 200_000, byte(i*100)+byte(at)))
		}
		s.mark()
		for at := int64(i); at < 16; at += 3 {
			damage(t, disk, v, id, "", at<<18)
			want++
		}
	}
	verify := func(cores int) VerifyReport {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		last := int64(0)
		report, err := v.Verify(t.Context(), VerifyOptions{Progress: func(done, total int64) {
			if done < last || done > total {
				t.Errorf("%d cores: progress %d of %d after %d", cores, done, total, last)
			}
			last = done
		}})
		if err != nil || report.Bytes == 0 || last == 0 {
			t.Fatalf("%d cores: %+v, progress %d, %v", cores, report, last, err)
		}
		return report
	}
	one := verify(1)
	if len(one.Damage) != want || one.Segments < 9 {
		t.Fatalf("%d damaged places in %d segments, want %d in many", len(one.Damage), one.Segments, want)
	}
	if !slices.IsSortedFunc(one.Damage, func(a, b Damage) int { return bytes.Compare([]byte(a.Disk), []byte(b.Disk)) }) {
		t.Errorf("the damage is not in the order of the disks: %v", one.Damage)
	}
	for range 10 {
		if got := verify(4); !reflect.DeepEqual(got, one) {
			t.Fatalf("four cores say\n%+v\nand one says\n%+v", got, one)
		}
	}
}

// A verification that is called off ends, however many cores are at it.
func TestVerifyEndsWithItsContext(t *testing.T) {
	v := open(t, vfs.NewSim(4), "v", Options{segmentBytes: 16 << 10})
	s := newSender(t, v, "a", 4<<20)
	for at := range int64(16) {
		s.write(change(at<<18, 200_000, byte(at)))
	}
	s.mark()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	off := errors.New("called off")
	_, err := v.Verify(ctx, VerifyOptions{Progress: func(int64, int64) { cancel(off) }})
	if !errors.Is(err, off) {
		t.Errorf("%v, want %v", err, off)
	}
}

// sectors is a file some of whose sectors cannot be read.
type sectors struct {
	*bytes.Reader
	bad  map[int64]bool
	read int64 // bytes
}

func (s *sectors) ReadAt(p []byte, offset int64) (int, error) {
	for at := offset / alignment; at*alignment < offset+int64(len(p)); at++ {
		if s.bad[at] {
			return 0, fmt.Errorf("sector %d is bad", at)
		}
	}
	s.read += int64(len(p))
	return s.Reader.ReadAt(p, offset)
}

// Reading ahead gives what is there, piece by piece, reads hardly anything twice, and
// a bad sector spoils only the piece that it is in.
func TestLookaheadGivesWhatTheFileHas(t *testing.T) {
	var l lookahead // of one file after another
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 7))
		content := make([]byte, r.IntN(3*lookaheadBytes)+1)
		text(content, seed)
		f := &sectors{Reader: bytes.NewReader(content), bad: map[int64]bool{}}
		for range int(seed % 3) {
			f.bad[r.Int64N(int64(len(content))/alignment+1)] = true
		}
		l.open(f, int64(len(content)))
		spoiled := func(from, to int) bool {
			for at := from / alignment; at*alignment < to; at++ {
				if f.bad[int64(at)] {
					return true
				}
			}
			return false
		}
		for at := 0; at < len(content); {
			n := 1 + r.IntN(1<<(3+r.IntN(20)))
			p, err := l.slice(int64(at), int64(n))
			switch {
			case at+n > len(content):
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("seed %d: %d bytes at %d of %d: %v, want %v", seed, n, at, len(content), err, io.ErrUnexpectedEOF)
				}
				n = 1
			case spoiled(at, at+n):
				if err == nil {
					t.Fatalf("seed %d: %d bytes at %d have a bad sector, and were read", seed, n, at)
				}
			case err != nil:
				t.Fatalf("seed %d: %d good bytes at %d: %v", seed, n, at, err)
			case !bytes.Equal(p, content[at:at+n]):
				t.Fatalf("seed %d: %d bytes at %d are not those of the file", seed, n, at)
			default:
				clear(p) // whoever has them may use them up
			}
			at += n
		}
		if len(f.bad) == 0 && f.read > int64(len(content))+int64(len(content))/8 {
			t.Errorf("seed %d: %d bytes were read of a file of %d", seed, f.read, len(content))
		}
	}
}

// BenchmarkVerify verifies a disk with 1 GiB of data that compresses to half.
func BenchmarkVerify(b *testing.B) {
	v, err := Open(b.Context(), vfs.OS(), b.TempDir(), keyed(Options{Create: true}))
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	data := make([]byte, 1<<30)
	text(data[:64<<20], 1)
	for at := 64 << 20; at < len(data); at += 64 << 20 {
		copy(data[at:], data[:64<<20])
	}
	if err := fill(b, v, "d", 1<<30, data); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(v.Usage().StoredBytes)
	for b.Loop() {
		if report, err := v.Verify(b.Context(), VerifyOptions{}); err != nil || len(report.Damage) > 0 {
			b.Fatal(report.Damage, err)
		}
	}
}
