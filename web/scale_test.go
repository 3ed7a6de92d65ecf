package web_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
)

// TestAThousandMachinesFitOnAPage fills the store to its bounds. Sizes always hold;
// times are looked at when RIPARO_LONG asks for them, on a quiet machine.
func TestAThousandMachinesFitOnAPage(t *testing.T) {
	h := newHouse(t, true).claimed()
	var model store.Machine
	var job store.Job
	if err := h.store.View(func(tx *store.Tx) (err error) {
		if model, err = tx.Machines().Get("m-4f7c21aa"); err != nil {
			return err
		}
		job, err = tx.Jobs().Get("20261122T070000.000Z-0000004")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	jobs := 1000
	if os.Getenv("RIPARO_LONG") != "" {
		jobs = store.MaxJobs
	}
	if err := h.store.Update(func(tx *store.Tx) error {
		for i := range 1000 {
			m := model
			m.ID, m.Name = replication.MachineID(fmt.Sprintf("m-%08x", i)), fmt.Sprintf("server-%04d", i)
			if err := tx.Machines().Put(m); err != nil {
				return err
			}
			h.appliance.figure[m.ID] = h.appliance.figure[model.ID]
		}
		for i := range jobs {
			job.ID = store.NewID(time.Now())
			job.Machine = fmt.Sprintf("m-%08x", i%1000)
			if err := tx.Jobs().Put(job); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b := h.signedIn("")
	for _, path := range []string{"/", "/machines", "/machines?page=11", "/machines?q=server-05", "/machines/m-00000001?window=all", "/machines/m-4f7c21aa/unplanned-failover?window=all", "/jobs", "/events", "/infrastructure", "/policies"} {
		rounds := 3
		if os.Getenv("RIPARO_LONG") != "" {
			rounds = 40
		}
		var took []time.Duration
		size := 0
		for range rounds {
			start := time.Now()
			got := b.get(path)
			took = append(took, time.Since(start))
			if got.status != 200 {
				t.Fatalf("%s: got %d", path, got.status)
			}
			size = len(got.body)
		}
		slices.Sort(took)
		p95 := took[len(took)*95/100]
		t.Logf("%-60s %6d bytes, median %s, p95 %s", path, size, took[len(took)/2].Round(time.Millisecond), p95.Round(time.Millisecond))
		if size > 200<<10 {
			t.Errorf("%s takes %d bytes: want at most 200 KiB", path, size)
		}
		if os.Getenv("RIPARO_LONG") != "" && p95 > 100*time.Millisecond {
			t.Errorf("%s takes %s at p95: want at most 100 ms", path, p95)
		}
	}
}
