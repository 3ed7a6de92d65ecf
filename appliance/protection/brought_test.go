package protection

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"golang.org/x/time/rate"

	"riparo/hypervisor"
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
	// Once more before the first point: all that the head has got is compared, from its
	// beginning. Behind a point that is little.
	m.Disks[0].Brought.Again = true
	for point, floor := range map[replication.PointID]int64{"p1": 50, "": 0} {
		state.Point = point
		if b := p.newBringer(&m, 0, "p3", state, true); b.floor != floor {
			t.Errorf("once more behind the point %q: the floor is %d, want %d", point, b.floor, floor)
		}
	}
}

// failing is a vault that does not take what is written to one disk.
type failing struct {
	Vault
	disk  replication.DiskID
	after atomic.Int64 // batches
}

func newFailing(v Vault, disk replication.DiskID, after int64) *failing {
	f := &failing{Vault: v, disk: disk}
	f.after.Store(after)
	return f
}

func (v *failing) Write(ctx context.Context, b replication.Batch) error {
	if b.Disk == v.disk && v.after.Add(-1) < 0 {
		return errors.New("the link is cut")
	}
	return v.Vault.Write(ctx, b)
}

// TestWhatWasBroughtOfTwoDisksStays however often the transfer of the second is cut off: the
// first is of the new instant when its changes are there, and so the capture is kept.
func TestWhatWasBroughtOfTwoDisksStays(t *testing.T) {
	const size = 16 << 20
	policy := replication.DefaultPolicy()
	p, site := labProtector(t, policy, Config{})
	p.keepBytes = 1 << 20
	m := protect(t, p, site, policy.Name, "WEB01", size, "vda", "vdb")
	whole := p.sink
	last := int64(0)
	for round := range 4 {
		p.sink = newFailing(whole, "web01.vdb", 5)
		if _, err := p.cycle(t.Context(), &m, policy, CycleOptions{}); err == nil {
			t.Fatal("the cycle came to its end")
		}
		var brought []int64
		for i, d := range m.Disks {
			if d.Brought == nil {
				t.Fatalf("round %d: nothing is kept of disk %d", round, i)
			}
			brought = append(brought, d.Brought.Offset)
		}
		if brought[0] != size || brought[1] <= last {
			t.Fatalf("round %d: the disks were brought to %v, before to %d", round, brought, last)
		}
		last = brought[1]
	}
	p.sink = whole
	out, err := p.cycle(t.Context(), &m, policy, CycleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if read := out.Disks[1].Compared; read == 0 || read > size-last+4<<20 {
		t.Errorf("%d bytes of the second disk were compared at the end, of %d that were left", read, size-last)
	}
}

// TestADeltaThatWasCutOffIsNotSentAgain: what the vault has of it is only compared.
func TestADeltaThatWasCutOffIsNotSentAgain(t *testing.T) {
	const size = 16 << 20
	policy := replication.DefaultPolicy()
	p, site := labProtector(t, policy, Config{})
	m := protect(t, p, site, policy.Name, "WEB01", size, "vda")
	cycle := func() (Outcome, error) { return p.cycle(t.Context(), &m, policy, CycleOptions{}) }
	if _, err := cycle(); err != nil {
		t.Fatal(err)
	}
	write := func() {
		if err := site.Encrypt(t.Context(), hypervisor.Ref(m.Source.Ref), "vda", replication.Extent{Offset: 4 << 20, Length: 8 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	write()
	whole := p.sink
	p.sink = newFailing(whole, "web01.vda", 12)
	if _, err := cycle(); err == nil {
		t.Fatal("the cycle came to its end")
	}
	p.sink = whole
	out, err := cycle()
	if err != nil {
		t.Fatal(err)
	}
	d := out.Disks[0]
	if d.Mode != hypervisor.Delta || d.Changed == 0 || d.Changed > 5<<20 {
		t.Errorf("the next cycle sent %d bytes of a %s; want the delta without the half that is there", d.Changed, d.Mode)
	}
	write()
	if out, err = cycle(); err != nil || out.Disks[0].Compared > 0 {
		t.Errorf("%d bytes of the next delta were compared, %v", out.Disks[0].Compared, err)
	}
}

// TestALimitLetsLittlePassAtOnce: each cycle has it anew.
func TestALimitLetsLittlePassAtOnce(t *testing.T) {
	for _, limit := range []int64{1000, 1 << 20, 50 << 20, 1 << 40} {
		if l := limitOf(limit); l.Limit() != rate.Limit(limit) || int64(l.Burst()) > limit/4 {
			t.Errorf("%d bytes a second: %v, %d at once", limit, l.Limit(), l.Burst())
		}
	}
	if l := limitOf(1); l.Burst() != 1 {
		t.Errorf("%d bytes at once, of one a second", l.Burst())
	}
	if l := limitOf(0); l.Limit() != rate.Inf {
		t.Errorf("no limit is %v", l.Limit())
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
