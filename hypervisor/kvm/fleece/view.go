package fleece

import (
	"context"
	"errors"
	"fmt"
	"time"

	"riparo/hypervisor"
)

// windowBytes is the room that is allocated for each disk before the instant, for
// what the guest overwrites until the filter stands: at a window of 15 ms a guest
// may write 4 GiB/s to each disk without the scratch folder's free space mattering.
const windowBytes = 64 << 20

// reserveFor is the room of a window: never more than the whole disk and qcow2's own
// tables.
func reserveFor(size int64) int64 { return min(windowBytes, size+size/1024+1<<20) }

// prepare makes the scratch files of a disk and opens them in QEMU, one above the
// other and both above the disk.
func (m *Machine) prepare(ctx context.Context, monitor Monitor, d Disk, size int64) error {
	err := m.scratchNode(ctx, monitor, lateNode(d.Key), lateFile(d.Key), d.Node, size, 0)
	if err == nil {
		err = m.scratchNode(ctx, monitor, windowNode(d.Key), windowFile(d.Key), lateNode(d.Key), size, reserveFor(size))
	}
	if err != nil {
		return m.scratchProblem(d.Key, err)
	}
	return nil
}

// scratchNode makes a qcow2 file and lets QEMU open it above another node.
func (m *Machine) scratchNode(ctx context.Context, monitor Monitor, name, file, backing string, size, reserve int64) error {
	if err := m.Scratch.Make(ctx, file, EmptyImage(size, ""), reserve); err != nil {
		return err
	}
	return monitor.Execute(ctx, "blockdev-add", args{"driver": "qcow2", "node-name": name,
		"file": args{"driver": "file", "filename": m.Scratch.Path(file)}, "backing": backing}, nil)
}

// startWindow gives the action that begins to keep what a disk's guest overwrites.
func startWindow(d Disk) args {
	return action("blockdev-backup", args{"job-id": jobName(d.Key), "device": d.Node, "target": windowNode(d.Key),
		"sync": "none", "filter-node-name": firstNode(d.Key)})
}

// addPassGroup makes the throttle group that the nodes below the filters need to
// have. It limits nothing.
func addPassGroup(ctx context.Context, monitor Monitor) error {
	// A crash may have left one behind, without nodes that would tell of it.
	_ = monitor.Execute(ctx, "object-del", args{"id": passGroup}, nil)
	return monitor.Execute(ctx, "object-add", args{"qom-type": "throttle-group", "id": passGroup}, nil)
}

// insertFilter puts the filter above the job of a disk. From here on the filter
// keeps what the guest overwrites; the job sees it too until it is canceled.
func insertFilter(ctx context.Context, monitor Monitor, d Disk) error {
	if err := monitor.Execute(ctx, "blockdev-add", args{"driver": "throttle", "node-name": passNode(d.Key),
		"throttle-group": passGroup, "file": firstNode(d.Key)}, nil); err != nil {
		return err
	}
	if err := monitor.Execute(ctx, "blockdev-add", args{"driver": "copy-before-write", "node-name": filterNode(d.Key),
		"file": passNode(d.Key), "target": lateNode(d.Key), "on-cbw-error": "break-snapshot"}, nil); err != nil {
		return err
	}
	if err := setDrive(ctx, monitor, d.Device, filterNode(d.Key)); err != nil {
		return err
	}
	return monitor.Execute(ctx, "blockdev-add", args{"driver": "snapshot-access", "node-name": witnessNode(d.Key), "file": filterNode(d.Key)}, nil)
}

// setDrive makes a device use another node. QEMU drains the device for it; the
// guest sees a request that takes a moment longer.
func setDrive(ctx context.Context, monitor Monitor, device, node string) error {
	return monitor.Execute(ctx, "qom-set", args{"path": device, "property": "drive", "value": node}, nil)
}

// serve starts the NBD server and exports the disks.
func (m *Machine) serve(ctx context.Context, monitor Monitor, disks []Disk, plans []plan) error {
	address := args{"addr": args{"type": "unix", "data": args{"path": m.Socket}}}
	if err := monitor.Execute(ctx, "nbd-server-start", address, nil); err != nil {
		exports, queryErr := queryExports(ctx, monitor)
		if queryErr != nil || len(exports) > 0 {
			return fmt.Errorf("machine %s: another program uses QEMU's NBD server: %w", m.Name, err)
		}
		// A crash left a server without exports.
		if monitor.Execute(ctx, "nbd-server-stop", nil, nil) != nil {
			return err
		}
		if err := monitor.Execute(ctx, "nbd-server-start", address, nil); err != nil {
			return err
		}
	}
	for i, d := range disks {
		export := args{"type": "nbd", "id": exportName(d.Key), "name": d.Key, "node-name": d.Node, "writable": false}
		if d.Device != "" {
			export["node-name"], export["allocation-depth"] = windowNode(d.Key), true
			witness := args{"type": "nbd", "id": witnessExport(d.Key), "name": witnessName(d.Key), "node-name": witnessNode(d.Key), "writable": false}
			if err := monitor.Execute(ctx, "block-export-add", witness, nil); err != nil {
				return err
			}
		}
		if plans[i].mode == hypervisor.Delta {
			export["bitmaps"] = []args{{"node": d.Node, "name": plans[i].base}}
		}
		if err := monitor.Execute(ctx, "block-export-add", export, nil); err != nil {
			return err
		}
	}
	return nil
}

// removeViews removes everything of captures from a QEMU except bitmaps, in an order that
// is right for whatever state a crash left it in. release lets a guest go on that QEMU
// stopped because a window had no room.
func removeViews(ctx context.Context, monitor Monitor, m *Machine, release bool) error {
	err := errors.Join(cancelJobs(ctx, monitor), removeExports(ctx, monitor))
	if err == nil {
		err = m.removeNodes(ctx, monitor, release)
	}
	if err != nil {
		return fmt.Errorf("machine %s: remove what is left of a capture: %w", m.Name, err)
	}
	// A file that cannot be removed now is replaced by the next capture.
	_ = m.Scratch.Remove(ctx, m.scratchFiles())
	return nil
}

// cancelJobs ends the jobs of captures. This comes first: while a job's filter is
// there, the device cannot be given back its own node.
func cancelJobs(ctx context.Context, monitor Monitor) error {
	canceled := map[string]bool{}
	return poll(ctx, func() (bool, error) {
		jobs, err := queryJobs(ctx, monitor)
		if err != nil {
			return false, err
		}
		gone := true
		for id, j := range jobs {
			if !isCaptureJob(id) {
				continue
			}
			gone = false
			switch {
			case j.Status == "concluded":
				err = errors.Join(err, monitor.Execute(ctx, "job-dismiss", args{"id": id}, nil))
			case j.Status == "aborting" || j.Status == "null":
				// It was canceled before, by somebody who did not wait for it.
			case !canceled[id]:
				canceled[id] = true
				err = errors.Join(err, monitor.Execute(ctx, "block-job-cancel", args{"device": id, "force": true}, nil))
			}
		}
		return gone, err
	})
}

func removeExports(ctx context.Context, monitor Monitor) error {
	exports, err := queryExports(ctx, monitor)
	if err != nil {
		return err
	}
	found := false
	for id, ending := range exports {
		if !isCaptureExport(id) {
			continue
		}
		found = true
		if !ending { // as one does that was removed by somebody who did not wait for it
			err = errors.Join(err, monitor.Execute(ctx, "block-export-del", args{"id": id, "mode": "hard"}, nil))
		}
	}
	if err != nil || !found {
		return err
	}
	others := 0
	if err := poll(ctx, func() (bool, error) {
		exports, err := queryExports(ctx, monitor)
		others = len(exports)
		for id := range exports {
			if isCaptureExport(id) {
				return false, err
			}
		}
		return true, err
	}); err != nil || others > 0 {
		return err
	}
	return monitor.Execute(ctx, "nbd-server-stop", nil, nil)
}

// removeNodes gives the devices their own nodes back and deletes ours.
func (m *Machine) removeNodes(ctx context.Context, monitor Monitor, release bool) error {
	g, err := readGraph(ctx, monitor)
	if err != nil {
		return err
	}
	// The jobs are gone, so the guest's writes need no room any more. Its going on comes
	// before the nodes are removed, which say that it may have been stopped by us: whoever
	// dies in between leaves them to the next.
	if release && g.hasWindow() {
		if stands, err := standsAfterError(ctx, monitor); err != nil {
			return err
		} else if stands {
			if err := m.goOn(ctx, monitor); err != nil {
				return fmt.Errorf("let the guest go on: %w", err)
			}
		}
	}
	remove := func(kinds ...func(string) string) error {
		for _, kind := range kinds {
			for name := range g.nodes {
				if key, ok := keyOf(name, kind); ok {
					if err := monitor.Execute(ctx, "blockdev-del", args{"node-name": kind(key)}, nil); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	if err := remove(witnessNode); err != nil {
		return err
	}
	for device, chain := range g.under {
		for i, name := range chain {
			if isCaptureNode(name) {
				continue
			}
			if i > 0 {
				if err := setDrive(ctx, monitor, device, name); err != nil {
					return err
				}
			}
			break
		}
	}
	if err := remove(filterNode, passNode, windowNode, lateNode); err != nil {
		return err
	}
	for name := range g.nodes {
		if _, ok := keyOf(name, passNode); ok {
			return monitor.Execute(ctx, "object-del", args{"id": passGroup}, nil)
		}
	}
	return nil
}

type job struct {
	ID     string `json:"id"`
	Type   string `json:"type"`
	Status string `json:"status"`
}

func queryJobs(ctx context.Context, monitor Monitor) (map[string]job, error) {
	var list []job
	if err := monitor.Execute(ctx, "query-jobs", nil, &list); err != nil {
		return nil, err
	}
	jobs := map[string]job{}
	for _, j := range list {
		jobs[j.ID] = j
	}
	return jobs, nil
}

// queryExports gives the exports by their names, and whether they are shutting down.
func queryExports(ctx context.Context, monitor Monitor) (map[string]bool, error) {
	var list []struct {
		ID     string `json:"id"`
		Ending bool   `json:"shutting-down"`
	}
	if err := monitor.Execute(ctx, "query-block-exports", nil, &list); err != nil {
		return nil, err
	}
	exports := map[string]bool{}
	for _, e := range list {
		exports[e.ID] = e.Ending
	}
	return exports, nil
}

// Polling QEMU: what is waited for takes 1 to 5 ms, and when it takes longer asking
// faster does not help.
const (
	pollFirst = time.Millisecond
	pollMost  = 50 * time.Millisecond
)

// poll asks until the answer is yes.
func poll(ctx context.Context, done func() (bool, error)) error {
	for wait := pollFirst; ; wait = min(2*wait, pollMost) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
