package fleece_test

import (
	"errors"
	"testing"
	"time"

	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// A copy that has ended and was not dismissed yet leaves QEMU with a node that it must
// not be asked for: a guest dies of the question.
func TestACopyThatEndedJustNowKillsNobody(t *testing.T) {
	w := newWorld(t, 1)
	if c, err := w.capture("1"); err != nil {
		t.Fatal(err)
	} else if err := c.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	do := func(command string, arguments, result any) {
		t.Helper()
		if err := w.conn.Execute(t.Context(), command, arguments, result); err != nil {
			t.Fatal(err)
		}
	}
	do("block-stream", map[string]any{"job-id": "copy", "device": "disk-vdb", "auto-dismiss": false}, nil)
	var jobs []struct {
		Status string `json:"status"`
	}
	for deadline := time.Now().Add(time.Minute); len(jobs) != 1 || jobs[0].Status != "concluded"; {
		if time.Now().After(deadline) {
			t.Fatalf("the copy does not end: %v", jobs)
		}
		do("query-jobs", nil, &jobs)
	}

	c, err := w.capture("2")
	if p, told := errors.AsType[*replication.Problem](err); !told || p.Code != "kvm.job" || p.Remedy != replication.Retry {
		t.Errorf("a capture before the copy was dismissed: %v, %v: want a problem that passes", c, err)
	}
	for name, err := range map[string]error{
		"forget": fleece.Forget(t.Context(), w.machine()),
		"track":  fleece.Track(t.Context(), w.machine(), "2"),
		"clear":  fleece.Clear(t.Context(), w.machine()),
	} {
		if !errors.Is(err, fleece.ErrStreaming) {
			t.Errorf("%s before the copy was dismissed: %v, want ErrStreaming", name, err)
		}
	}
	do("query-block", nil, nil)

	do("job-dismiss", map[string]any{"id": "copy"}, nil)
	if c, err = w.capture("3"); err != nil {
		t.Fatalf("a capture after the copy was dismissed: %v", err)
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Error(err)
	}
}
