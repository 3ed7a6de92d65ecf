package fleece

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
)

// halfRemoved is a QEMU in which a removal was begun and not waited for. Like QEMU, it
// refuses to cancel or remove once more what is on its way out. Each question takes it a
// step further.
type halfRemoved struct {
	steps   int
	stopped bool // the NBD server
}

func (h *halfRemoved) Execute(_ context.Context, command string, arguments, result any) error {
	answer := "[]"
	h.steps--
	switch command {
	case "query-jobs":
		if h.steps > 0 {
			answer = fmt.Sprintf(`[{"id":%q,"type":"backup","status":"aborting"}]`, jobName("vda"))
		}
	case "query-block-exports":
		if h.steps > -3 {
			answer = fmt.Sprintf(`[{"id":%q,"shutting-down":true}]`, exportName("vda"))
		}
	case "nbd-server-stop":
		h.stopped = true
		return nil
	default:
		return fmt.Errorf("%s %v: already on its way out", command, arguments)
	}
	return json.Unmarshal([]byte(answer), result)
}

// A guard that gives a capture up may be told to stop in the midst of it; the one who
// rolls back then goes on where it was.
func TestARemovalThatWasNotWaitedForIsWaitedFor(t *testing.T) {
	q := &halfRemoved{steps: 3}
	if err := cancelJobs(t.Context(), q); err != nil {
		t.Errorf("jobs: %v", err)
	}
	if err := removeExports(t.Context(), q); err != nil {
		t.Errorf("exports: %v", err)
	}
	if !q.stopped {
		t.Error("the NBD server was not stopped")
	}
}
