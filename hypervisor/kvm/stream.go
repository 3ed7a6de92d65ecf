package kvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// The job of QEMU's that copies a disk from its recovery point. QEMU dismisses it by
// itself the moment it ends: one that had ended and was kept for somebody to look at
// would be a machine that must not be asked for its nodes, see [fleece.Nodes]. An error
// is seen nevertheless, because the job stands and waits when it meets one.

func streamJob(key string) string { return "riparo-stream-" + key }

// streamLook is how often progress is asked for.
const streamLook = 250 * time.Millisecond

// streamState is a job as query-block-jobs tells of it.
type streamState struct {
	ID       string `json:"device"`
	Type     string `json:"type"`
	Status   string `json:"status"`
	Error    string `json:"error"`
	IOStatus string `json:"io-status"`
	Current  int64  `json:"offset"`
}

// failure says why a job cannot go on, or nothing.
func (j *streamState) failure() string {
	switch {
	case j.Error != "":
		return j.Error
	case j.IOStatus == "nospace":
		return "No space left on device"
	case j.IOStatus == "failed":
		return "Input/output error"
	}
	return ""
}

// stream runs the job of one disk to its end, and lets go of what was below. When ctx
// ends, the job goes on.
func (s *Site) stream(ctx context.Context, name, key string, monitor fleece.Monitor, report func(current int64)) error {
	tick := time.NewTicker(streamLook)
	defer tick.Stop()
	for started := false; ; {
		job, err := findJob(ctx, monitor, streamJob(key))
		if err != nil {
			return err
		}
		switch {
		case job == nil:
			done, err := s.letGoOrStream(ctx, name, key, monitor, started)
			if done || err != nil && !errors.Is(err, fleece.ErrStreaming) {
				return err
			}
			if err == nil {
				started = true
				continue
			}
			// Another call copies another disk.
		case job.Status == "concluded" || job.failure() != "":
			if err := endJob(ctx, monitor, job); err != nil {
				return err
			}
			if why := job.failure(); why != "" && started {
				return &replication.Problem{
					Code: "kvm.stream", Cause: fmt.Sprintf("disk %s could not be copied from its recovery point: %s", key, why),
					Effect: "what was copied is kept; the machine runs on its overlay",
					Action: "check that the recovery point is being served and that the site has room", Remedy: replication.Retry,
				}
			}
			continue // what an earlier process met may be over by now
		default:
			started = true
			report(job.Current)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// letGoOrStream is called when a disk has no job. Either nothing is below the disk (any
// more): then it closes the connection to the recovery point and says so in the
// definition. Or it starts the job, unless that was done already. The machine is held
// meanwhile, so that nobody asks QEMU for its nodes just then.
func (s *Site) letGoOrStream(ctx context.Context, name, key string, monitor fleece.Monitor, started bool) (done bool, err error) {
	p, release, err := s.hold(ctx, name)
	if err != nil {
		return false, err
	}
	defer release()
	has, backing, err := below(ctx, monitor, key)
	switch {
	case err != nil:
		return false, err
	case !has:
		if backing {
			if err := monitor.Execute(ctx, "blockdev-del", fields{"node-name": backingNode(key)}, nil); err != nil {
				return false, err
			}
		}
		return true, s.forgetBacking(hypervisor.Ref(name), key)
	case started:
		return false, &replication.Problem{
			Code: "kvm.stream", Cause: "the copy from the recovery point ended early", Effect: "what was copied is kept; the machine runs on its overlay",
			Action: "check that the recovery point is being served and that the site has room", Remedy: replication.Retry,
		}
	case p.capture != nil:
		return false, capturedProblem(name)
	}
	if err := monitor.Execute(ctx, "block-stream", fields{"job-id": streamJob(key), "device": diskNode(key), "on-error": "stop"}, nil); err != nil {
		return false, &replication.Problem{
			Code: "kvm.stream", Cause: fmt.Sprintf("disk %s cannot be made independent now: %v", key, err), Effect: "the machine runs on its overlay",
			Action: "it is tried again; an open capture of the machine has to end first", Remedy: replication.Retry, Err: err,
		}
	}
	return false, nil
}

// below asks QEMU whether something lies below a disk, and whether it has the node that
// was there in the beginning.
func below(ctx context.Context, monitor fleece.Monitor, key string) (has, backing bool, err error) {
	var nodes []struct {
		Name  string `json:"node-name"`
		Depth int    `json:"backing_file_depth"`
	}
	// A flat answer is shorter and always says depth 0.
	if err := fleece.Nodes(ctx, monitor, false, &nodes); err != nil {
		return false, false, err
	}
	found := false
	for _, n := range nodes {
		switch n.Name {
		case diskNode(key):
			found, has = true, n.Depth > 0
		case backingNode(key):
			backing = true
		}
	}
	if !found {
		return false, false, fmt.Errorf("QEMU has no node %s", diskNode(key))
	}
	return has, backing, nil
}

// forgetBacking says in the definition that nothing is below a disk. The caller holds the
// machine.
func (s *Site) forgetBacking(ref hypervisor.Ref, key string) error {
	d, err := s.load(ref)
	if err != nil {
		return err
	}
	for i := range d.Disks {
		if d.Disks[i].Key == key {
			d.Disks[i].Backing = ""
		}
	}
	return s.Define(*d)
}

func streamJobs(ctx context.Context, monitor fleece.Monitor) ([]streamState, error) {
	var jobs, streams []streamState
	if err := monitor.Execute(ctx, "query-block-jobs", nil, &jobs); err != nil {
		return nil, err
	}
	for _, j := range jobs {
		if j.Type == "stream" {
			streams = append(streams, j)
		}
	}
	return streams, nil
}

func findJob(ctx context.Context, monitor fleece.Monitor, id string) (*streamState, error) {
	jobs, err := streamJobs(ctx, monitor)
	for _, j := range jobs {
		if j.ID == id {
			return &j, err
		}
	}
	return nil, err
}

// endJob ends a job, and returns when it is gone.
func endJob(ctx context.Context, monitor fleece.Monitor, job *streamState) error {
	command, arguments := "block-job-cancel", fields{"device": job.ID, "force": true}
	if job.Status == "concluded" { // an earlier version of this program did not let QEMU dismiss it
		command, arguments = "job-dismiss", fields{"id": job.ID}
	}
	// It may have ended by itself meanwhile: what counts is that it goes.
	refused := monitor.Execute(ctx, command, arguments, nil)
	if err := look(ctx, func() (bool, error) {
		found, err := findJob(ctx, monitor, job.ID)
		return found == nil, err
	}); err != nil {
		return errors.Join(refused, err)
	}
	return nil
}

// endLimit is how long the copies of a machine that ends may take to let go. One that
// reads from a recovery point that is not served just now takes up to reconnectDelay.
const endLimit = 5 * time.Second

// endStreams ends the copies of a machine whose QEMU is about to end: it must be asked for
// its nodes once more.
func endStreams(ctx context.Context, monitor fleece.Monitor) error {
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	jobs, err := streamJobs(ctx, monitor)
	for _, j := range jobs {
		err = errors.Join(err, endJob(ctx, monitor, &j))
	}
	return err
}
