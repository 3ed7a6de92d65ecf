package appliance_test

import (
	"fmt"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// judged compares a point with what the machine's workload says that it wrote.
func (th *theater) judged(name string, point replication.PointID) {
	th.Helper()
	world, err := th.a.Lab()
	if err != nil {
		th.Fatal(err)
	}
	record, err := world.Record(name)
	if err != nil {
		th.Fatal(err)
	}
	shown := map[string]replication.Source{}
	for _, d := range th.machine().Disks {
		w, err := th.a.Rooms().Vault.View(th.Context(), d.ID, point)
		if err != nil {
			th.Fatal(err)
		}
		defer w.Close()
		shown[d.Key] = w
	}
	verdict, err := record.Judge(th.Context(), shown)
	if err != nil || !verdict.OK {
		th.Errorf("point %s: %v, %s", point, err, verdict.Why)
	}
}

// A comparison that is cut off goes on: what was compared is not compared again, but for
// what the machine wrote meanwhile, and the point is right.
func TestAResynchronizationGoesOnWhereItWasCutOff(t *testing.T) {
	th, site := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	const size, bad = 16 << 20, 12 << 20
	if err := site.FailRead(th.ref, "vda", replication.Extent{Offset: bad, Length: 4096}); err != nil {
		t.Fatal(err)
	}
	job, err := th.a.Ask(t.Context(), api.Request{Actor: "test", Machine: th.id, Verb: lifecycle.Resynchronize})
	if err != nil {
		t.Fatal(err)
	}
	th.until("tracking is distrusted", func() bool { return th.machine().Compare })
	// No other cycle goes on in place of the job: they wait after a failure.
	if _, err := th.a.Rooms().Protection.Change(th.id, func(m *store.Machine) error {
		m.Failures, m.NextTry = 1, time.Now().Add(time.Hour)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	brought := func() int64 {
		if b := th.machine().Disks[0].Brought; b != nil {
			return b.Offset
		}
		return 0
	}
	// The first try may have ended while what it sent was under way.
	th.until("the comparison was cut off", func() bool { return brought() >= bad/2 })
	from := brought()
	if from > bad {
		t.Fatalf("it was brought to %d, and the disk cannot be read at %d", from, bad)
	}
	if err := site.FailRead(th.ref, "vda", replication.Extent{}); err != nil {
		t.Fatal(err)
	}
	ended := th.job(job)
	var compared int64
	mode := evidence(ended, "vda")
	if _, err := fmt.Sscanf(mode, "delta: compared %d,", &compared); err != nil {
		t.Fatalf("the job says %q, want a delta that was compared: %v", mode, err)
	}
	// Later tries may have come further; the workload writes 256 KiB a second.
	if rest := int64(size) - from; compared > rest+4<<20 || compared == 0 {
		t.Errorf("%d bytes were compared after %d of %d were", compared, from, size)
	}
	if b := th.machine().Disks[0].Brought; b != nil {
		t.Errorf("it is part of a point now, and the record still says %+v", b)
	}
	th.judged("WEB01", replication.PointID(evidence(ended, "recovery point")))
	th.until("the next point is an ordinary delta", func() bool {
		p := th.machine().LastPoint
		return p != nil && string(p.ID) != evidence(ended, "recovery point")
	})
	th.judged("WEB01", th.machine().LastPoint.ID)
}
