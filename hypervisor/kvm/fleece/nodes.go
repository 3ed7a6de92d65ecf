package fleece

import (
	"context"
	"errors"
	"fmt"

	"riparo/replication"
)

// ErrStreaming: a disk is being copied from its recovery point, and QEMU might not
// survive the question for its nodes.
var ErrStreaming = errors.New("a disk is being copied from its recovery point")

// Nodes asks QEMU for its block nodes. It is the only way to do so here: a QEMU that has
// a block-stream job must not be asked, and then the error wraps ErrStreaming. The caller
// sees to it that no such job begins meanwhile.
//
// The job reads through a filter node. When all is copied the filter has nothing below
// it any more, but is there until the job is dismissed, which libvirt does some
// milliseconds later. query-named-block-nodes follows the pointer to what is below, and
// QEMU ends with a segmentation fault, and with it the guest. Whether the filter has a
// name, and whether the answer is to be flat, makes no difference. Seen with QEMU 7.2;
// QEMU's issue 3149 tells of it in 10.1. The questions for devices (query-block,
// query-blockstats) and for jobs do not come near such a filter.
func Nodes(ctx context.Context, monitor Monitor, flat bool, result any) error {
	jobs, err := queryJobs(ctx, monitor)
	if err != nil {
		return err
	}
	for id, j := range jobs {
		if j.Type == "stream" {
			return &replication.Problem{
				Code: "kvm.job", Cause: fmt.Sprintf("QEMU works on the disks of the machine (%s job %s)", j.Type, id), Effect: "nothing was done",
				Action: "it is tried again when that has ended", Remedy: replication.Retry, Err: ErrStreaming,
			}
		}
	}
	return monitor.Execute(ctx, "query-named-block-nodes", args{"flat": flat}, result)
}
