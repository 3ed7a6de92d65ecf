package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/processserver"
	"riparo/replication/resync"
	"riparo/replication/vault"
	"riparo/store"
)

// rollbackLimit bounds the clean-up after a failed cycle: the source may be gone.
const rollbackLimit = 15 * time.Second

// lookLimit bounds the look at a machine: one whose host hangs holds a place among the few
// that replicate at once.
const lookLimit = 2 * time.Minute

// beginLimit bounds what a host takes to begin a capture, for the same reason. A freeze has
// its own limit, which the policy sets; scratch files may be made over a slow line.
const beginLimit = 10 * time.Minute

// markLimit bounds what the marks of a point take, which no cancel ends: it is the time to
// write some bytes for each disk, behind what others write.
const markLimit = 2 * time.Minute

// CycleOptions say how to take a point.
type CycleOptions struct {
	Want replication.Consistency // AppConsistent to try; anything else is crash-consistent
	Tag  string
	// Progress is told what is being done and how far it is.
	Progress func(activity string, done, total int64)
	// Limited is told each time that the policy's rate makes the cycle wait, and whether what
	// is known then says that it also reads at full speed: that the disk under way, or one
	// that follows, is compared. It comes from one goroutine at a time and must not block.
	Limited func(reads bool)
	// Compare makes the cycle compare every disk with the vault, as if tracking
	// had been lost.
	Compare bool
}

// active is the place whose machine is replicated in this direction.
func active(m store.Machine) store.Place {
	if m.Direction == lifecycle.Reverse {
		return m.Target
	}
	return m.Source
}

// cycle takes one recovery point of m. It brings m's disks and shape in line
// with what the source reports, and changes nothing else of it.
func (p *Protector) cycle(ctx context.Context, m *store.Machine, policy replication.Policy, o CycleOptions) (Outcome, error) {
	began := p.now()
	progress := o.Progress
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	place := active(*m)
	provider, err := p.sites.Provider(place.Site)
	if err != nil {
		return Outcome{}, err
	}
	progress("looking at the machine", 0, 0)
	looking, stop := context.WithTimeoutCause(ctx, lookLimit, fmt.Errorf("no answer within %s", lookLimit))
	seen, err := provider.Machine(looking, hypervisor.Ref(place.Ref))
	stop()
	if err != nil {
		return Outcome{}, fmt.Errorf("machine %s at site %s: %w", m.Name, place.Site, err)
	}
	if m.Direction == lifecycle.Forward {
		m.Shape = seen
	}
	var out Outcome
	out.News = adoptDisks(m, seen.Disks)

	states := map[string]replication.DiskState{}
	since := map[string]replication.PointID{}
	var keys []string
	for _, d := range m.Disks {
		if d.Excluded {
			continue
		}
		state, err := p.sink.Prepare(ctx, replication.Disk{ID: d.ID, Machine: m.ID, Size: d.Size}, m.Epoch)
		if err != nil {
			return out, fmt.Errorf("prepare disk %s: %w", d.ID, err)
		}
		states[d.Key] = state
		keys = append(keys, d.Key)
		switch {
		case d.Brought.Fits(state):
			since[d.Key] = d.Brought.Point
		case state.Point != "" && !o.Compare:
			since[d.Key] = state.Point
		}
	}
	if len(keys) == 0 {
		return out, replication.Stopf("machine.no-disks", "include at least one disk", "machine %s has no disk to replicate", m.Name)
	}

	point := replication.NewPointID(p.now())
	request := hypervisor.PointRequest{Ref: hypervisor.Ref(place.Ref), Point: point, Disks: keys, Since: since, Want: o.Want, FreezeLimit: policy.FreezeLimit}
	progress("freezing the disks at one instant", 0, 0)
	capture, err := p.begin(ctx, place.Site, seen, request)
	if err != nil {
		return out, fmt.Errorf("freeze the disks of %s: %w", m.Name, err)
	}
	settled := false
	defer func() {
		if settled {
			return
		}
		// The cycle's own context may be over; the source must be released anyway.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit)
		defer cancel()
		if err := p.suspend(clean, m, capture, point); err != nil {
			p.log.Warn("a capture was not ended; the next cycle clears it", "machine", m.ID, "name", m.Name, "error", err)
		}
	}()
	out.Instant = capture.Instant()

	marks, err := p.carry(ctx, m, capture, point, states, since, policy, o, &out, progress)
	if err != nil {
		return out, err
	}
	instant := out.Instant
	var members []replication.DiskID
	for _, mark := range marks {
		members = append(members, mark.Disk)
	}
	progress("closing the recovery point", 0, 0)
	if err := context.Cause(ctx); err != nil {
		return out, err
	}
	// Whoever cancels now waits for it: a point that only some of the disks have would cost
	// those a comparison.
	ending, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), markLimit, fmt.Errorf("the vault did not take the marks of the point within %s", markLimit))
	defer cancel()
	for _, mark := range marks {
		mark.Point, mark.Time, mark.Consistency, mark.Members, mark.Tag = point, instant.NotBefore, instant.Consistency, members, o.Tag
		if err := p.sink.Mark(ending, mark); err != nil {
			return out, fmt.Errorf("mark disk %s: %w", mark.Disk, err)
		}
	}
	// Before all that may take long or fail. A point that could not be locked is one all
	// the same.
	ending, cancel = context.WithTimeout(context.WithoutCancel(ctx), markLimit)
	lockErr := p.lock(ending, *m, point, members, states, policy)
	cancel()
	out.News = append(out.News, p.heal(ctx, *m, capture.Disks(), progress)...)
	settled = true
	// The point is durable: a failure to commit costs only a larger next delta, or
	// a comparison, and the next cycle finds out by itself.
	ending, cancel = context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit)
	err = capture.Commit(ending)
	cancel()
	if err != nil {
		p.log.Warn("the source did not confirm the recovery point", "machine", m.ID, "name", m.Name, "point", point, "error", err)
	}
	if lockErr != nil {
		return out, lockErr
	}
	out.Point = replication.RecoveryPoint{ID: point, Time: instant.NotBefore, Consistency: instant.Consistency, Disks: members, Tag: o.Tag}
	for _, d := range out.Disks {
		out.Point.ChangedBytes += d.Changed
	}
	out.Took = p.now().Sub(began)
	p.log.Debug("recovery point taken", "machine", m.ID, "name", m.Name, "point", point, "consistency", instant.Consistency, "disks", len(out.Disks),
		"changed_bytes", out.Point.ChangedBytes, "took", out.Took)
	return out, nil
}

// lock locks a point for as long as the policy says, and those before it whose cycles did
// not come so far.
func (p *Protector) lock(ctx context.Context, m store.Machine, point replication.PointID, members []replication.DiskID, states map[string]replication.DiskState, policy replication.Policy) error {
	if policy.LockFor == 0 {
		return nil
	}
	for _, d := range m.Disks {
		if !slices.Contains(members, d.ID) {
			continue
		}
		points := []replication.PointID{point}
		// The record names the point of the last cycle that came to its end.
		if before := states[d.Key].Point; before != "" && (m.LastPoint == nil || m.LastPoint.ID != before) {
			complete, err := p.sink.Points(d.ID)
			if err != nil {
				return fmt.Errorf("look for a point of disk %s that is not locked: %w", d.ID, err)
			}
			first := slices.IndexFunc(complete, func(q replication.RecoveryPoint) bool { return m.LastPoint != nil && q.ID == m.LastPoint.ID })
			for i, q := range complete { // in the vault's order
				if q.ID != point && q.LockedUntil.IsZero() && (q.ID == before || first >= 0 && i > first) {
					points = append(points, q.ID)
				}
			}
		}
		if err := p.sink.Lock(ctx, d.ID, points, p.sink.TrustedTime().Add(policy.LockFor)); err != nil {
			return fmt.Errorf("lock point %s of disk %s, as policy %s wants: %w", point, d.ID, policy.Name, err)
		}
	}
	return nil
}

// limitOf is the limit of a cycle. Each has what may pass at once anew, so that is little.
func limitOf(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), max(1, int(bytesPerSecond/4)))
}

// carry sends what each captured disk has to the sink, one disk at a time, and
// gives the marks that will close the point.
func (p *Protector) carry(ctx context.Context, m *store.Machine, capture hypervisor.Capture, point replication.PointID, states map[string]replication.DiskState, since map[string]replication.PointID, policy replication.Policy, o CycleOptions, out *Outcome, progress func(string, int64, int64)) ([]replication.Mark, error) {
	limit := limitOf(policy.BytesPerSecond)
	var marks []replication.Mark
	// sends: what is known now says that the disk is sent, and not compared.
	sends := func(c hypervisor.CapturedDisk) bool {
		i := slices.IndexFunc(m.Disks, func(d store.Disk) bool { return d.Key == c.Key() })
		state := states[c.Key()]
		return c.Mode() == hypervisor.Full && state.Sequence == 0 ||
			c.Mode() == hypervisor.Delta && i >= 0 && since[c.Key()] == state.Point && !state.Unmarked && !m.Disks[i].Brought.Fits(state)
	}
	disks := capture.Disks()
	for n, captured := range disks {
		i := slices.IndexFunc(m.Disks, func(d store.Disk) bool { return d.Key == captured.Key() })
		if i < 0 {
			return nil, fmt.Errorf("the provider captured disk %q, which was not asked for", captured.Key())
		}
		disk, state := m.Disks[i], states[captured.Key()]
		if captured.Size() != state.Disk.Size { // resized between the look and the freeze
			m.Disks[i].Size, m.Disks[i].Brought = captured.Size(), nil
			disk = m.Disks[i]
			var err error
			if state, err = p.sink.Prepare(ctx, replication.Disk{ID: disk.ID, Machine: m.ID, Size: captured.Size()}, m.Epoch); err != nil {
				return nil, fmt.Errorf("resize disk %s: %w", disk.ID, err)
			}
		}
		mode, reason := captured.Mode(), captured.Reason()
		var source replication.Source = captured
		var comparison *resync.Comparison
		resumed := mode == hypervisor.Delta && disk.Brought.Fits(state)
		// A delta since an instant that the vault does not have after all, because the disk
		// was resized meanwhile, is no delta to it.
		foreign := mode == hypervisor.Delta && !resumed && since[captured.Key()] != state.Point
		compare := resumed || foreign || mode == hypervisor.Unknown || mode == hypervisor.Full && state.Sequence > 0
		followed := compare || mode == hypervisor.Full
		// What a cycle that was cut off has brought of a delta is not sent again. How far it
		// came is not kept: to go on from there takes an instant that the source remembers
		// in place of the point's.
		again := mode == hypervisor.Delta && !compare && state.Unmarked
		bring := p.newBringer(m, i, point, state, resumed)
		var err error
		switch {
		case resumed:
			source, err = p.goOn(ctx, m, i, captured, state)
		case foreign:
			source = resync.Resumed(captured, 0)
		case mode == hypervisor.Delta:
			if state.PointSize < captured.Size() {
				// Tracking knows writes. What a disk that grew shows beyond its old end
				// may have been there before: a volume shows what others have left.
				source = resync.Resumed(captured, state.PointSize)
			}
			if state.Unmarked {
				// A cycle that was cut off has sent blocks that belong to no point. Most of
				// them are in this delta too, whose point is the same. Those that the source
				// has lost without its tracking would stay.
				source, err = p.withLeft(ctx, m, disk, captured, source, state)
			}
		}
		if err != nil {
			return nil, err
		}
		if compare {
			// The vault already holds something of this disk: what a cut-off first
			// transfer left, or a disk whose tracking was lost. Send what differs.
			comparison = resync.Differences(source, p.sink, disk.ID, &resync.Options{Progress: bring.comparedTo})
			source = bring.source(comparison)
			if mode == hypervisor.Unknown && !o.Compare && state.Point != "" && m.Failures == 0 {
				out.News = append(out.News, store.Event{Severity: "warning", Code: "tracking.lost", Machine: string(m.ID), Name: m.Name,
					Text:   fmt.Sprintf("change tracking of disk %s was lost (%s); it is compared with the vault by checksum, older points stay", disk.Key, reason),
					Args:   map[string]string{"disk": disk.Key, "reason": reason},
					Action: "nothing: it mends itself"})
				if err := p.resyncing(m); err != nil {
					return nil, err
				}
			}
		}
		if again {
			comparison = resync.Differences(source, p.sink, disk.ID, &resync.Options{})
			source = comparison
		}
		var waiting func()
		if o.Limited != nil {
			reads := compare || again || slices.ContainsFunc(disks[n+1:], func(c hypervisor.CapturedDisk) bool { return !sends(c) })
			waiting = func() { o.Limited(reads) }
		}
		activity := activityFor(mode, compare, disk.Key)
		progress(activity, 0, captured.Size())
		result, err := processserver.Carry(ctx, p.sink, state, source, processserver.Options{
			Epoch: m.Epoch, Limit: limit, Waiting: waiting,
			Progress: func(at processserver.Progress) {
				progress(activity, at.Offset, captured.Size())
				if followed {
					bring.carried(at)
				}
			},
		})
		switch {
		case err != nil:
			bring.cutOff()
		case followed && n < len(disks)-1: // others may be cut off
			bring.ended(captured.Size(), result.Sequence)
		}
		done := DiskOutcome{Key: disk.Key, Mode: mode, Reason: reason, Result: result}
		if comparison != nil {
			done.Compared = comparison.Progress().Read
		}
		out.Disks = append(out.Disks, done)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", activity, err)
		}
		p.log.Debug("disk sent", "machine", m.ID, "name", m.Name, "disk", disk.ID, "mode", mode, "sequence", result.Sequence, "read_bytes", result.Read,
			"changed_bytes", result.Changed)
		marks = append(marks, replication.Mark{Disk: disk.ID, Epoch: m.Epoch, Sequence: result.Sequence + 1, Size: captured.Size()})
	}
	return marks, nil
}

// resyncing shows in the machine's state that its disks are being compared.
func (p *Protector) resyncing(m *store.Machine) error {
	if m.State != lifecycle.Protected {
		return nil
	}
	now, err := p.Change(m.ID, func(m *store.Machine) error {
		if err := step(m, lifecycle.TrackingLost, p.now()); err != nil {
			return err
		}
		return step(m, lifecycle.ResyncStarted, p.now())
	})
	m.State = now.State
	return err
}

// begin freezes the machine. A stopped machine whose provider cannot capture it
// is read from its opened disks, and compared.
func (p *Protector) begin(ctx context.Context, site string, seen hypervisor.Machine, r hypervisor.PointRequest) (hypervisor.Capture, error) {
	reader, err := p.sites.ChangeReader(site)
	if err != nil {
		return nil, err
	}
	limit := beginLimit + r.FreezeLimit
	ctx, stop := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer stop()
	capture, err := reader.BeginPoint(ctx, r)
	if !errors.Is(err, hypervisor.ErrNotRunning) {
		return capture, err
	}
	opener, openerErr := p.sites.DiskOpener(site)
	if openerErr != nil {
		return nil, errors.Join(err, openerErr)
	}
	return openStopped(ctx, opener, r, p.now)
}

func activityFor(mode hypervisor.CaptureMode, compare bool, key string) string {
	switch {
	case compare:
		return "comparing " + key
	case mode == hypervisor.Delta:
		return "reading changes of " + key
	}
	return "copying " + key
}

// adoptDisks brings m's disks in line with what the source has: new disks are
// adopted, grown ones resized, vanished ones left out of further points.
func adoptDisks(m *store.Machine, seen []hypervisor.Disk) (news []store.Event) {
	tell := func(severity, code, key, text string) {
		news = append(news, store.Event{Severity: severity, Code: code, Machine: string(m.ID), Name: m.Name, Text: text, Args: map[string]string{"disk": key}})
	}
	for _, s := range seen {
		i := slices.IndexFunc(m.Disks, func(d store.Disk) bool { return d.Key == s.Key })
		if i < 0 {
			m.Disks = append(m.Disks, store.Disk{Key: s.Key, ID: DiskID(m.ID, s.Key), Size: s.Size, Boot: s.Boot})
			tell("info", "disk.adopted", s.Key, fmt.Sprintf("disk %s was added to the machine and is protected from now on; only it is copied", s.Key))
			continue
		}
		if d := &m.Disks[i]; d.Removed {
			d.Excluded, d.Removed = false, false
			tell("info", "disk.adopted", s.Key, fmt.Sprintf("disk %s is part of the machine again; it is compared with what the vault still has of it", s.Key))
		}
		if d := &m.Disks[i]; d.Size != s.Size && !d.Excluded {
			tell("info", "disk.resized", s.Key, fmt.Sprintf("disk %s changed its size from %d to %d bytes", s.Key, d.Size, s.Size))
			d.Size, d.Brought = s.Size, nil
		}
	}
	for i := range m.Disks {
		d := &m.Disks[i]
		if d.Excluded || slices.ContainsFunc(seen, func(s hypervisor.Disk) bool { return s.Key == d.Key }) {
			continue
		}
		d.Excluded, d.Removed = true, true
		tell("warning", "disk.removed", d.Key, fmt.Sprintf("disk %s was removed from the machine; new points are without it, older ones keep it", d.Key))
	}
	return news
}

// DiskID names a machine's disk in the vault.
func DiskID(m replication.MachineID, key string) replication.DiskID {
	safe := []byte(string(m) + "." + key)
	for i, c := range safe {
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && c != '.' && c != '-' && c != '_' {
			safe[i] = '_'
		}
	}
	return replication.DiskID(safe)
}

// ofDamage reports whether an error of the vault says that it is damaged.
func ofDamage(err error) bool {
	p, ok := errors.AsType[*replication.Problem](err)
	return ok && (p.Code == vault.CodeDamaged || p.Code == vault.CodeIndex)
}
