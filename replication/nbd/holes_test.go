package nbd

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"riparo/replication"
)

// comb is a disk with data in every other 64 KiB, and holes of 4 KiB steps of size
// in between; it counts how often somebody walked over it.
type comb struct {
	teeth int64
	walks *atomic.Int64
	fail  *atomic.Bool
}

const combPitch = 128 << 10

func newComb(teeth int64) comb { return comb{teeth, new(atomic.Int64), new(atomic.Bool)} }

func (c comb) Size() int64 { return c.teeth * combPitch }

func (c comb) ReadAt(p []byte, off int64) (int, error) {
	return 0, errors.New("its content is of no interest")
}

// hole is the length of a tooth's hole: 4, 8, … 64 KiB.
func (c comb) hole(tooth int64) int64 { return 4096 * (1 + tooth%16) }

func (c comb) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		c.walks.Add(1)
		for i := range c.teeth {
			at, hole := i*combPitch, c.hole(i)
			if c.fail.Load() && i == c.teeth/2 {
				yield(replication.Region{}, errors.New("a bad day"))
				return
			}
			if !yield(replication.Region{Extent: replication.Extent{Offset: at, Length: hole}, Zero: true}, nil) ||
				!yield(replication.Region{Extent: replication.Extent{Offset: at + hole, Length: combPitch - hole}}, nil) {
				return
			}
		}
	}
}

// TestTheMapOfAHugeDiskIsWalkedOnce asks many times about a disk of 25 GiB with
// 400,000 regions.
func TestTheMapOfAHugeDiskIsWalkedOnce(t *testing.T) {
	disk := newComb(200_000)
	_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk}})
	c := dial(t, URI("unix", socket, "d"), Options{Contexts: []string{AllocationContext}})
	begun := time.Now()
	for range 3 {
		sameRegions(t, joined(t, c), joined(t, disk))
	}
	// In small questions from all over the disk, as a copying client asks.
	for i := range int64(2000) {
		tooth := i * 97 % disk.teeth
		for s, err := range c.Map(t.Context(), AllocationContext, replication.Extent{Offset: tooth * combPitch, Length: combPitch}) {
			if err != nil || s.Flags != StateHole|StateZero || s.Length != disk.hole(tooth) {
				t.Fatalf("tooth %d: got %v, %v", tooth, s, err)
			}
			break
		}
	}
	t.Logf("3 × 400,000 regions and 2,000 questions in %s", time.Since(begun))
	if walks := disk.walks.Load() - 3; walks != 1 { // three are ours, above
		t.Errorf("the server walked over the disk %d times, want once", walks)
	}
}

func TestOfTooManyHolesTheSmallestAreForgotten(t *testing.T) {
	disk := newComb(10_000)
	list, err := collectHoles(t.Context(), disk, 3000)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) > 3000 || len(list) < 1000 {
		t.Errorf("%d holes are remembered, want at most 3000 and most of them", len(list))
	}
	smallest := int64(1 << 62)
	for i, e := range list {
		if tooth := e.Offset / combPitch; e.Offset%combPitch != 0 || e.Length != disk.hole(tooth) {
			t.Fatalf("hole %d, %v, is none of the disk", i, e)
		}
		smallest = min(smallest, e.Length)
	}
	if smallest < 32<<10 {
		t.Errorf("a hole of %d bytes was kept while larger ones were forgotten", smallest)
	}
}

func TestAFailedWalkIsTriedAgain(t *testing.T) {
	disk := newComb(100)
	disk.fail.Store(true)
	_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk}})
	c := dial(t, URI("unix", socket, "d"), Options{Contexts: []string{AllocationContext}})
	for _, err := range c.Regions(t.Context()) {
		if told, ok := errors.AsType[*ServerError](err); !ok || told.Number != errnoIO || told.Message != "a bad day" {
			t.Errorf("got %v, want the error of the disk", err)
		}
	}
	disk.fail.Store(false)
	sameRegions(t, joined(t, c), joined(t, disk))
}

// TestHolesAreToldNotSent reads after the map was asked for.
func TestHolesAreToldNotSent(t *testing.T) {
	disk := newMemoryDisk(256<<20+5).scatter(31, 20)
	_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk}})
	c := dial(t, URI("unix", socket, "d"), Options{Contexts: []string{AllocationContext}})
	joined(t, c)
	sameContent(t, c, disk)
	p := make([]byte, 32<<20)
	for at := int64(0); at < disk.size; at += int64(len(p)) {
		n := min(int64(len(p)), disk.size-at)
		want := make([]byte, n)
		disk.ReadAt(want, at)
		if err := c.Read(t.Context(), p[:n], at); err != nil || string(p[:n]) != string(want) {
			t.Fatalf("the %d bytes at %d differ, %v", n, at, err)
		}
	}
}
