package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

func streamJob(key string) string { return "riparo-stream-" + key }

// streamLook is how often progress is asked for.
const streamLook = 250 * time.Millisecond

// Flatten lets QEMU copy what the overlays still read from below into them
// (block-stream). The job runs inside QEMU and goes on when this process ends; a
// second call joins it.
func (s *Site) Flatten(ctx context.Context, ref hypervisor.Ref, progress func(done, total int64)) error {
	d, err := s.load(ref)
	if err != nil {
		return err
	}
	monitor, release, err := s.openEither(ctx, d)
	if err != nil {
		return fmt.Errorf("flatten %s: %w", d.Name, err)
	}
	err = s.flatten(ctx, d, monitor, progress)
	if err = errors.Join(err, release()); err != nil {
		return fmt.Errorf("flatten %s: %w", d.Name, err)
	}
	return nil
}

// openEither connects to the QEMU of a machine that runs, or to the storage of one
// that does not.
func (s *Site) openEither(ctx context.Context, d *Definition) (fleece.Monitor, func() error, error) {
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if p.capture != nil {
		return nil, nil, &replication.Problem{
			Code: "kvm.captured", Cause: fmt.Sprintf("a recovery point of %s is being read", d.Name), Effect: "the copy did not begin",
			Action: "it is tried again when that has ended", Remedy: replication.Retry,
		}
	}
	if s.observe(ctx, d.Name) == guestDown {
		if err := s.settle(ctx, d, p); err != nil {
			return nil, nil, err
		}
	}
	if s.observe(ctx, d.Name) == ended {
		st, err := s.openStorage(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		return st.conn, st.release, nil
	}
	return &reconnecting{site: s, name: d.Name}, func() error { return nil }, nil
}

// reconnecting is a monitor of a running machine that holds the control socket no
// longer than a command takes: streaming lasts hours.
type reconnecting struct {
	site *Site
	name string
}

func (r *reconnecting) Execute(ctx context.Context, command string, arguments, result any) error {
	conn, err := r.site.dial(ctx, r.name, "control")
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Execute(ctx, command, arguments, result)
}

type streamState struct {
	Status  string `json:"status"`
	Error   string `json:"error"`
	ID      string `json:"id"`
	Current int64  `json:"current-progress"`
	Total   int64  `json:"total-progress"`
}

func (s *Site) flatten(ctx context.Context, d *Definition, monitor fleece.Monitor, progress func(done, total int64)) error {
	var total, done int64
	sizes := map[string]int64{}
	for _, disk := range d.Disks {
		if disk.Backing != "" {
			size, err := imageSize(s.diskPath(disk), disk.Format)
			if err != nil {
				return err
			}
			sizes[disk.Key] = size
			total += size
		}
	}
	for _, disk := range d.Disks {
		if disk.Backing == "" {
			continue
		}
		report := func(current int64) {
			if progress != nil {
				progress(done+min(current, sizes[disk.Key]), total)
			}
		}
		if err := stream(ctx, monitor, disk.Key, report); err != nil {
			return fmt.Errorf("disk %s: %w", disk.Key, err)
		}
		if err := s.letGo(ctx, hypervisor.Ref(d.Name), disk.Key, monitor); err != nil {
			return fmt.Errorf("disk %s: %w", disk.Key, err)
		}
		done += sizes[disk.Key]
		report(0)
	}
	return nil
}

// stream runs the job of one disk to its end. When ctx ends, the job goes on.
func stream(ctx context.Context, monitor fleece.Monitor, key string, report func(current int64)) error {
	tick := time.NewTicker(streamLook)
	defer tick.Stop()
	started := false
	for {
		job, err := findJob(ctx, monitor, streamJob(key))
		if err != nil {
			return err
		}
		switch {
		case job == nil && !started:
			has, err := hasBacking(ctx, monitor, key)
			if err != nil || !has {
				return err
			}
			err = monitor.Execute(ctx, "block-stream", fields{"job-id": streamJob(key), "device": diskNode(key), "auto-dismiss": false}, nil)
			if err != nil {
				return &replication.Problem{
					Code: "kvm.stream", Cause: fmt.Sprintf("disk %s cannot be made independent now: %v", key, err), Effect: "the machine runs on its overlay",
					Action: "it is tried again; an open capture of the machine has to end first", Remedy: replication.Retry, Err: err,
				}
			}
			started = true
			continue
		case job == nil:
			return errors.New("the job has vanished: QEMU ended meanwhile")
		case job.Status == "concluded":
			started = true
			if err := monitor.Execute(ctx, "job-dismiss", fields{"id": job.ID}, nil); err != nil {
				return err
			}
			if job.Error != "" {
				return &replication.Problem{
					Code: "kvm.stream", Cause: fmt.Sprintf("disk %s could not be copied from its recovery point: %s", key, job.Error),
					Effect: "what was copied is kept; the machine runs on its overlay",
					Action: "check that the recovery point is being served and that the site has room", Remedy: replication.Retry,
				}
			}
			return nil
		}
		started = true
		report(job.Current)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func findJob(ctx context.Context, monitor fleece.Monitor, id string) (*streamState, error) {
	var jobs []streamState
	if err := monitor.Execute(ctx, "query-jobs", nil, &jobs); err != nil {
		return nil, err
	}
	for _, j := range jobs {
		if j.ID == id {
			return &j, nil
		}
	}
	return nil, nil
}

// hasBacking asks QEMU whether something lies below a disk.
func hasBacking(ctx context.Context, monitor fleece.Monitor, key string) (bool, error) {
	var nodes []struct {
		Name  string `json:"node-name"`
		Depth int    `json:"backing_file_depth"`
	}
	// A flat answer is shorter and always says depth 0.
	if err := monitor.Execute(ctx, "query-named-block-nodes", fields{"flat": false}, &nodes); err != nil {
		return false, err
	}
	for _, n := range nodes {
		if n.Name == diskNode(key) {
			return n.Depth > 0, nil
		}
	}
	return false, fmt.Errorf("QEMU has no node %s", diskNode(key))
}

// letGo is called when a disk has been copied: it makes sure that nothing is below it
// any more, closes the connection to the recovery point, and says so in the
// definition.
func (s *Site) letGo(ctx context.Context, ref hypervisor.Ref, key string, monitor fleece.Monitor) error {
	has, err := hasBacking(ctx, monitor, key)
	if err != nil {
		return err
	}
	if has {
		return errors.New("QEMU still reads from its backing after the copy")
	}
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := monitor.Execute(ctx, "query-named-block-nodes", fields{"flat": true}, &nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Name == backingNode(key) {
			if err := monitor.Execute(ctx, "blockdev-del", fields{"node-name": n.Name}, nil); err != nil {
				return err
			}
		}
	}
	return s.forgetBacking(ctx, ref, key)
}

func (s *Site) forgetBacking(ctx context.Context, ref hypervisor.Ref, key string) error {
	_, release, err := s.hold(ctx, string(ref))
	if err != nil {
		return err
	}
	defer release()
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

// dropGoneBackings corrects the definition of a machine that does not run: an image
// whose header names no file below has been flattened, and a crash kept that from
// being noted. The caller holds the machine.
func (s *Site) dropGoneBackings(ctx context.Context, d *Definition) error {
	changed := false
	for i, disk := range d.Disks {
		if disk.Backing == "" {
			continue
		}
		file, err := os.Open(s.diskPath(disk))
		if err != nil {
			return fmt.Errorf("machine %s: disk %s: %w", d.Name, disk.Key, err)
		}
		header, err := readHeader(file)
		file.Close()
		if err != nil {
			return fmt.Errorf("machine %s: disk %s: %w", d.Name, disk.Key, err)
		}
		if !header.backing {
			d.Disks[i].Backing, changed = "", true
		}
	}
	if !changed {
		return nil
	}
	return s.Define(*d)
}
