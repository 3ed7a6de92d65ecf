package protection

import (
	"math/rand/v2"
	"testing"

	"riparo/replication"
	"riparo/replication/processserver"
	"riparo/replication/resync"
	"riparo/store"
)

// What is kept of a transfer is never further than what a kill at that moment leaves in
// the vault, and never much behind it.
func TestWhatIsKeptOfATransferIsInTheVault(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 4))
		const size, every = 1 << 20, 64 << 10
		var kept []int64
		b := &bringer{every: every, compared: -1}
		if random.IntN(2) == 0 {
			b.floor = random.Int64N(size)
		}
		b.keep = func(at store.Brought) { kept = append(kept, at.Offset) }
		compare := random.IntN(3) > 0
		if compare {
			b.source(nil)
		}
		compared, durable := int64(0), int64(0)
		var sent []int64 // ends of regions that differ and are not durable yet
		most := int64(0) // it does not become less by what is found to differ further up
		safe := func() int64 {
			most = max(most, durable)
			if len(sent) == 0 && compare {
				most = max(most, compared)
			}
			return most
		}
		for compared < size || len(sent) > 0 {
			safe()
			switch {
			case compared < size && random.IntN(2) == 0:
				next := min(compared+1+random.Int64N(32<<10), size)
				if differs := !compare || random.IntN(4) == 0; differs {
					sent = append(sent, next)
					b.mu.Lock()
					b.yielded = next
					b.mu.Unlock()
				}
				compared = next
				if compare {
					b.comparedTo(resync.Progress{Offset: compared})
				}
			case len(sent) > 0:
				durable, sent = sent[0], sent[1:]
				b.carried(processserver.Progress{Offset: durable})
			}
			if n := len(kept); n > 0 && kept[n-1] > safe() {
				t.Fatalf("seed %d: offset %d is kept, and the vault has all below %d", seed, kept[n-1], safe())
			}
		}
		b.cutOff()
		if n := len(kept); n == 0 || kept[n-1] != size || kept[0] <= b.floor {
			t.Fatalf("seed %d: kept %v, want up from %d to %d", seed, kept, b.floor, size)
		}
		for i := 1; i < len(kept); i++ {
			if kept[i] <= kept[i-1] || i < len(kept)-1 && kept[i]-kept[i-1] < every {
				t.Errorf("seed %d: kept %d after %d, want it every %d bytes", seed, kept[i], kept[i-1], every)
			}
		}
	}
}

// What was brought of an instant that the source has forgotten is of no use, and keeps no
// other transfer from keeping how far it came.
func TestOnlyWhatIsGoneOnWithIsAFloor(t *testing.T) {
	state := replication.DiskState{Disk: replication.Disk{Size: 100}, Epoch: 3, Sequence: 7, Point: "p1"}
	m := store.Machine{Disks: []store.Disk{{Key: "vda", Brought: &store.Brought{Point: "p2", Since: "p1", Offset: 50, Size: 100, Epoch: 3, Sequence: 7}}}}
	p := &Protector{}
	for resumed, floor := range map[bool]int64{true: 50, false: 0} {
		if b := p.newBringer(&m, 0, "p3", state, resumed); b.floor != floor {
			t.Errorf("resumed %t: the floor is %d, want %d", resumed, b.floor, floor)
		}
	}
}

func TestWhatWasBroughtFitsOnlyItsOwnHead(t *testing.T) {
	state := replication.DiskState{Disk: replication.Disk{Size: 100}, Epoch: 3, Sequence: 7, Point: "p1"}
	b := store.Brought{Point: "p2", Since: "p1", Offset: 50, Size: 100, Epoch: 3, Sequence: 7}
	if !b.Fits(state) || (*store.Brought)(nil).Fits(state) {
		t.Error("it does not fit its own head, or nothing fits any")
	}
	for what, change := range map[string]func(*replication.DiskState){
		"another size":                      func(s *replication.DiskState) { s.Disk.Size = 101 },
		"another owner":                     func(s *replication.DiskState) { s.Epoch = 4 },
		"less than was acknowledged":        func(s *replication.DiskState) { s.Sequence = 6 },
		"a point that was made of it since": func(s *replication.DiskState) { s.Point = "p3" },
	} {
		other := state
		change(&other)
		if b.Fits(other) {
			t.Errorf("it fits a head with %s", what)
		}
	}
}
