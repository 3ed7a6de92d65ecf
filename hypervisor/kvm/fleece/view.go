package fleece

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"riparo/hypervisor"
)

// windowBytes is the room that is allocated for each disk before the instant, for
// what the guest overwrites until the filter stands: at a window of 15 ms a guest
// may write 4 GiB/s to each disk without the scratch folder's free space mattering.
const windowBytes = 64 << 20

// prepare makes the scratch files of a disk and opens them in QEMU.
func (m *Machine) prepare(ctx context.Context, monitor Monitor, d Disk, size int64) error {
	window, late := path.Join(m.Scratch, windowFile(d.Key)), path.Join(m.Scratch, lateFile(d.Key))
	// A window never needs more than the whole disk and qcow2's own tables.
	reserve := min(windowBytes, size+size/1024+1<<20)
	steps := []func() error{
		func() error {
			return create(ctx, monitor, d.Key, args{"driver": "file", "filename": window, "size": reserve, "preallocation": "falloc"})
		},
		func() error {
			return monitor.Execute(ctx, "blockdev-add", args{"driver": "file", "node-name": fileNode(d.Key), "filename": window}, nil)
		},
		func() error {
			return create(ctx, monitor, d.Key, args{"driver": "qcow2", "file": fileNode(d.Key), "size": size})
		},
		func() error {
			return monitor.Execute(ctx, "blockdev-del", args{"node-name": fileNode(d.Key)}, nil)
		},
		func() error {
			return monitor.Execute(ctx, "blockdev-add", args{"driver": "qcow2", "node-name": windowNode(d.Key),
				"file": args{"driver": "file", "filename": window}, "backing": nil}, nil)
		},
		func() error {
			return create(ctx, monitor, d.Key, args{"driver": "file", "filename": late, "size": size})
		},
		func() error {
			return monitor.Execute(ctx, "blockdev-add", args{"driver": "raw", "node-name": lateNode(d.Key),
				"file": args{"driver": "file", "filename": late}}, nil)
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return m.scratchProblem(d.Key, err)
		}
	}
	return nil
}

// create lets QEMU make an image or a file, so that it exists where QEMU is.
func create(ctx context.Context, monitor Monitor, key string, options args) error {
	job := createJob(key)
	if err := monitor.Execute(ctx, "blockdev-create", args{"job-id": job, "options": options}, nil); err != nil {
		return err
	}
	var failed string
	if err := poll(ctx, func() (bool, error) {
		jobs, err := queryJobs(ctx, monitor)
		if err != nil {
			return false, err
		}
		j, ok := jobs[job]
		if !ok {
			return false, fmt.Errorf("QEMU lost the job %s", job)
		}
		failed = j.Error
		return j.Status == "concluded", nil
	}); err != nil {
		return err
	}
	if err := monitor.Execute(ctx, "job-dismiss", args{"id": job}, nil); err != nil {
		return err
	}
	if failed != "" {
		return errors.New(failed)
	}
	return nil
}

// startWindow gives the action that begins to keep what a disk's guest overwrites.
func startWindow(d Disk) args {
	return action("blockdev-backup", args{"job-id": jobName(d.Key), "device": d.Node, "target": windowNode(d.Key),
		"sync": "none", "filter-node-name": firstNode(d.Key)})
}

// insertFilter puts the filter above the job of a disk. From here on the filter
// keeps what the guest overwrites; the job sees it too until it is canceled.
func insertFilter(ctx context.Context, monitor Monitor, d Disk) error {
	if err := monitor.Execute(ctx, "blockdev-add", args{"driver": "raw", "node-name": passNode(d.Key), "file": firstNode(d.Key)}, nil); err != nil {
		return err
	}
	if err := monitor.Execute(ctx, "blockdev-add", args{"driver": "copy-before-write", "node-name": filterNode(d.Key),
		"file": passNode(d.Key), "target": lateNode(d.Key), "on-cbw-error": "break-snapshot"}, nil); err != nil {
		return err
	}
	return setDrive(ctx, monitor, d.Device, filterNode(d.Key))
}

// setDrive makes a device use another node. QEMU drains the device for it; the
// guest sees a request that takes a moment longer.
func setDrive(ctx context.Context, monitor Monitor, device, node string) error {
	return monitor.Execute(ctx, "qom-set", args{"path": device, "property": "drive", "value": node}, nil)
}

// openView makes the instant of a disk readable under windowNode.
func openView(ctx context.Context, monitor Monitor, d Disk) error {
	if err := monitor.Execute(ctx, "blockdev-add", args{"driver": "snapshot-access", "node-name": viewNode(d.Key), "file": filterNode(d.Key)}, nil); err != nil {
		return err
	}
	return monitor.Execute(ctx, "blockdev-snapshot", args{"node": viewNode(d.Key), "overlay": windowNode(d.Key)}, nil)
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
		export := args{"type": "nbd", "id": exportName(d.Key), "name": d.Key, "node-name": windowNode(d.Key), "writable": false}
		if d.Device == "" {
			export["node-name"] = d.Node
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
// is right for whatever state a crash left it in.
func removeViews(ctx context.Context, monitor Monitor, m *Machine) error {
	err := errors.Join(cancelJobs(ctx, monitor), removeExports(ctx, monitor))
	if err == nil {
		err = removeNodes(ctx, monitor)
	}
	if err != nil {
		return fmt.Errorf("machine %s: remove what is left of a capture: %w", m.Name, err)
	}
	if m.Discard != nil {
		var names []string
		for _, d := range m.Disks {
			names = append(names, ScratchFiles(d.Key)...)
		}
		m.Discard(names)
	}
	return nil
}

// cancelJobs ends the jobs of captures. This comes first: while a job's filter is
// there, the device cannot be given back its own node.
func cancelJobs(ctx context.Context, monitor Monitor) error {
	jobs, err := queryJobs(ctx, monitor)
	if err != nil {
		return err
	}
	for id, j := range jobs {
		switch {
		case !isCaptureJob(id):
		case j.Status == "concluded":
			err = errors.Join(err, monitor.Execute(ctx, "job-dismiss", args{"id": id}, nil))
		case j.Type == "backup":
			err = errors.Join(err, monitor.Execute(ctx, "block-job-cancel", args{"device": id, "force": true}, nil))
		default:
			err = errors.Join(err, monitor.Execute(ctx, "job-cancel", args{"id": id}, nil))
		}
	}
	if err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		jobs, err := queryJobs(ctx, monitor)
		for id, j := range jobs {
			if isCaptureJob(id) && j.Status != "concluded" {
				return false, err
			}
		}
		return true, err
	})
}

func removeExports(ctx context.Context, monitor Monitor) error {
	exports, err := queryExports(ctx, monitor)
	if err != nil {
		return err
	}
	found := false
	for id := range exports {
		if isCaptureExport(id) {
			found = true
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
func removeNodes(ctx context.Context, monitor Monitor) error {
	g, err := readGraph(ctx, monitor)
	if err != nil {
		return err
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
	if err := remove(fileNode, windowNode, viewNode); err != nil {
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
	return remove(filterNode, passNode, lateNode)
}

type job struct {
	ID     string `json:"id"`
	Type   string `json:"type"`
	Status string `json:"status"`
	Error  string `json:"error"`
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

func queryExports(ctx context.Context, monitor Monitor) (map[string]bool, error) {
	var list []struct {
		ID string `json:"id"`
	}
	if err := monitor.Execute(ctx, "query-block-exports", nil, &list); err != nil {
		return nil, err
	}
	exports := map[string]bool{}
	for _, e := range list {
		exports[e.ID] = true
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
