package fleece

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// ErrEnded is wrapped by Machine.Connect when the machine's QEMU does not run.
var ErrEnded = errors.New("QEMU does not run")

// endLimit bounds the clean-up after a failed or interrupted capture.
const endLimit = 30 * time.Second

// Begin captures the disks that the request names. It puts in order first what
// earlier captures left behind.
func Begin(ctx context.Context, m Machine, request hypervisor.PointRequest) (*Capture, error) {
	disks, err := m.asked(request)
	if err != nil {
		return nil, err
	}
	monitor, disconnect, err := m.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer disconnect()
	c := &Capture{machine: &m, point: request.Point}
	if err := c.begin(ctx, monitor, disks, request); err != nil {
		c.release()
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
		defer cancel()
		// What cannot be undone now Settle and the next capture undo, by their rules.
		if removeViews(cleaning, monitor, &m, !c.stood) == nil {
			var undo []args
			for _, d := range c.disks {
				undo = append(undo, d.takeBack()...)
			}
			_ = transaction(cleaning, monitor, undo)
		}
		return nil, fmt.Errorf("capture %s: %w", m.Name, err)
	}
	return c, nil
}

// asked are the disks of the request, checked.
func (m *Machine) asked(request hypervisor.PointRequest) ([]Disk, error) {
	if request.Point == "" {
		return nil, fmt.Errorf("capture %s: the request names no point", m.Name)
	}
	var disks []Disk
	for _, key := range request.Disks {
		d, ok := m.disk(key)
		if !ok {
			return nil, &replication.Problem{
				Code: "kvm.no-disk", Cause: fmt.Sprintf("%s has no disk %s (any more)", m.Name, key), Effect: "no recovery point was taken",
				Action: "discover the machine again and choose among its disks", Remedy: replication.Retry, // it may have gone just now
			}
		}
		if request.Since[key] == request.Point {
			return nil, fmt.Errorf("capture %s: disk %s: point %s cannot follow itself", m.Name, key, request.Point)
		}
		if slices.Contains(disks, d) {
			return nil, fmt.Errorf("capture %s: disk %s is named twice", m.Name, key)
		}
		disks = append(disks, d)
	}
	if len(disks) == 0 {
		return nil, fmt.Errorf("capture %s: the request names no disk", m.Name)
	}
	return disks, nil
}

func (c *Capture) begin(ctx context.Context, monitor Monitor, disks []Disk, request hypervisor.PointRequest) error {
	m := c.machine
	if err := removeViews(ctx, monitor, m, true); err != nil {
		return err
	}
	if err := refuseOtherJobs(ctx, monitor); err != nil {
		return err
	}
	g, err := readGraph(ctx, monitor)
	if err != nil {
		return err
	}
	if disks, err = g.resolve(m.Name, disks); err != nil {
		return err
	}
	if err := refuseIOThreads(ctx, monitor, disks); err != nil {
		return err
	}
	plans := make([]plan, len(disks))
	running := false
	for i, d := range disks {
		plans[i] = planFor(g.nodes[d.Node], d.Key, request.Since[d.Key])
		if below := g.nodeBelow(d, Bitmap(request.Since[d.Key], d.Key)); plans[i].mode == hypervisor.Delta && below != "" {
			// What was written before the snapshot is in the one below only.
			plans[i] = planFor(g.nodes[d.Node], d.Key, "")
			plans[i].mode, plans[i].reason = hypervisor.Unknown, fmt.Sprintf("the disk was snapshotted since point %s: the image below (%s) has its bitmap too", request.Since[d.Key], below)
		}
		running = running || d.Device != ""
		if err := transaction(ctx, monitor, plans[i].restore(d.Node)); err != nil {
			return fmt.Errorf("put the bitmaps of disk %s in order: %w", d.Key, err)
		}
		plans[i].merge, plans[i].remove = nil, nil
	}
	if running {
		if c.stood, err = standsAfterError(ctx, monitor); err != nil {
			return err
		}
		var reserve int64
		for _, d := range disks {
			reserve += reserveFor(g.nodes[d.Node].Image.Size)
		}
		if err := m.roomFor(ctx, reserve); err != nil {
			return m.scratchProblem(disks[0].Key, err)
		}
		for _, d := range disks {
			if err := m.prepare(ctx, monitor, d, g.nodes[d.Node].Image.Size); err != nil {
				return err
			}
		}
	}
	if err := c.take(ctx, monitor, disks, plans, g, request); err != nil {
		return err
	}
	if running {
		if err := c.handOver(ctx, monitor, disks); err != nil {
			return err
		}
	}
	if err := m.serve(ctx, monitor, disks, plans); err != nil {
		return err
	}
	for _, d := range c.disks {
		if err := d.dial(ctx, running); err != nil {
			return err
		}
	}
	if running {
		c.startGuard(ctx)
	}
	return nil
}

// take is the instant.
func (c *Capture) take(ctx context.Context, monitor Monitor, disks []Disk, plans []plan, g *graph, request hypervisor.PointRequest) error {
	var actions []args
	for i, d := range disks {
		first, last := plans[i].begin(d.Node, Bitmap(c.point, d.Key))
		actions = append(actions, first...)
		if d.Device != "" {
			actions = append(actions, startWindow(d))
		}
		actions = append(actions, last...)
	}
	instant := func() error {
		c.instant.NotBefore = time.Now()
		err := transaction(ctx, monitor, actions)
		c.instant.NotAfter = time.Now()
		if err == nil {
			for i, d := range disks {
				c.disks = append(c.disks, &CapturedDisk{capture: c, key: d.Key, node: d.Node, size: g.nodes[d.Node].Image.Size, plan: plans[i]})
			}
		}
		return err
	}
	c.instant.Consistency = replication.CrashConsistent
	if c.machine.Clean {
		c.instant.Consistency = replication.Clean
	}
	c.instant.Evidence = map[string]string{}
	if request.Want == replication.AppConsistent && !c.machine.Clean {
		limit := request.FreezeLimit
		if limit <= 0 {
			limit = DefaultFreezeLimit
		}
		f, err := c.machine.frozen(ctx, limit, instant)
		if err != nil {
			return err
		}
		if f.consistent {
			c.instant.Consistency = replication.AppConsistent
			c.instant.Evidence["file systems frozen"] = fmt.Sprint(f.fileSystems)
		}
		c.instant.Frozen, c.instant.Warnings = f.stood, f.warnings
	} else if err := instant(); err != nil {
		return err
	}
	c.instant.Evidence["transaction"] = c.instant.NotAfter.Sub(c.instant.NotBefore).Round(10 * time.Microsecond).String()
	return nil
}

// handOver lets the filters take over from the jobs.
func (c *Capture) handOver(ctx context.Context, monitor Monitor, disks []Disk) error {
	began := time.Now()
	if err := addPassGroup(ctx, monitor); err != nil {
		return err
	}
	for _, d := range disks {
		if err := insertFilter(ctx, monitor, d); err != nil {
			return fmt.Errorf("insert the filter of disk %s: %w", d.Key, err)
		}
	}
	if err := cancelJobs(ctx, monitor); err != nil {
		return fmt.Errorf("hand over to the filters: %w", err)
	}
	c.instant.Evidence["window"] = time.Since(began).Round(10 * time.Microsecond).String()
	if stands, err := standsAfterError(ctx, monitor); err != nil {
		return err
	} else if stands && !c.stood {
		return c.resume(ctx, monitor)
	}
	return nil
}

// standsAfterError reports whether QEMU stopped the guest because I/O failed.
func standsAfterError(ctx context.Context, monitor Monitor) (bool, error) {
	var state struct {
		Status string `json:"status"`
	}
	err := monitor.Execute(ctx, "query-status", nil, &state)
	return state.Status == "io-error", err
}

// resume lets a guest go on that stands after an I/O error. If scratch space for the
// window ran out (more was overwritten within milliseconds than had been allocated),
// the write now succeeds; if its own disk fails, it stops again at once.
func (c *Capture) resume(ctx context.Context, monitor Monitor) error {
	if err := c.machine.goOn(ctx, monitor); err != nil {
		return err
	}
	return c.machine.brokenProblem(c.disks[0].key, errors.New("more was overwritten at the instant than was allocated for it"))
}

// refuseOtherJobs: a disk that is being copied, committed or mirrored cannot be
// captured at the same time.
func refuseOtherJobs(ctx context.Context, monitor Monitor) error {
	jobs, err := queryJobs(ctx, monitor)
	if err != nil {
		return err
	}
	for id, j := range jobs {
		if isCaptureJob(id) || j.Status == "concluded" || j.Type == "create" {
			continue
		}
		return &replication.Problem{
			Code: "kvm.job", Cause: fmt.Sprintf("QEMU works on the disks of the machine (%s job %s)", j.Type, id), Effect: "no recovery point was taken",
			Action: "it is tried again when that has ended", Remedy: replication.Retry,
		}
	}
	return nil
}

// refuseIOThreads: see the package comment.
func refuseIOThreads(ctx context.Context, monitor Monitor, disks []Disk) error {
	var version struct {
		QEMU struct {
			Major int `json:"major"`
		} `json:"qemu"`
	}
	if err := monitor.Execute(ctx, "query-version", nil, &version); err != nil {
		return err
	}
	if version.QEMU.Major >= 9 {
		return nil
	}
	var threads []struct{}
	if err := monitor.Execute(ctx, "query-iothreads", nil, &threads); err != nil || len(threads) == 0 {
		return err
	}
	for _, d := range disks {
		var thread string
		// A device on a SCSI controller does not know of its controller's iothread
		// and refuses the question: only an empty answer is a good one.
		if d.Device == "" || monitor.Execute(ctx, "qom-get", args{"path": d.Device, "property": "iothread"}, &thread) == nil && thread == "" {
			continue
		}
		return &replication.Problem{
			Code: "kvm.iothread", Cause: fmt.Sprintf("disk %s has or may have an iothread %s, and its QEMU %d would not survive a capture", d.Key, thread, version.QEMU.Major),
			Effect: "the machine cannot be protected as it is",
			Action: "remove the iothreads from the machine, or run it with QEMU 9.0 or newer", Remedy: replication.Stop, Err: ErrIOThread,
		}
	}
	return nil
}
