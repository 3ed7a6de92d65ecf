package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// player is one machine of the story.
type player struct {
	*story
	name  string
	ref   hypervisor.Ref
	id    replication.MachineID
	disks int
	size  int64

	figures Machine
	wrong   bool
	older   replication.RecoveryPoint // that the story goes back to
	judged  map[replication.PointID]uint64
}

func (p *player) powerOn(ctx context.Context) error {
	site, err := p.world.Site(primary)
	if err != nil {
		return err
	}
	p.figures = Machine{Name: p.name, Disks: p.disks, LogicalBytes: p.size}
	p.judged = map[replication.PointID]uint64{}
	return site.Start(ctx, p.ref, hypervisor.StartOptions{})
}

func (p *player) protectMe(ctx context.Context) error {
	id, job, err := p.appliance.Protect(ctx, api.ProtectRequest{Actor: actor, Site: primary, Ref: p.ref, Target: secondary, Policy: policy, Network: "production", BootSign: "serving"})
	if err != nil {
		return err
	}
	p.id = id
	done, err := p.wait(ctx, job)
	if err != nil {
		return err
	}
	sent := p.sentBy(done)
	p.figures.SentBytes += sent
	p.Tell("%s is protected: initial replication sent %s of %s in %.1f s", p.name, bytesText(sent), bytesText(p.size), seconds(done.Ended.Sub(done.Created)))
	return nil
}

// ask starts a verb and waits for the end of its job.
func (p *player) ask(ctx context.Context, r api.Request) (store.Job, error) {
	r.Actor, r.Machine = actor, p.id
	switch r.Verb {
	case lifecycle.PlannedFailover, lifecycle.UnplannedFailover, lifecycle.Failback:
		r.Confirm = p.name
	}
	job, err := p.appliance.Ask(ctx, r)
	if err != nil {
		return store.Job{}, err
	}
	return p.wait(ctx, job)
}

// wait waits until a job has ended, and for an error says why it did.
func (p *player) wait(ctx context.Context, id string) (store.Job, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("job %s did not end within %s", id, patience))
	defer cancel()
	nudge, changed, unsubscribe := p.appliance.Subscribe()
	defer unsubscribe()
	for {
		var job store.Job
		err := p.rooms.Store.View(func(tx *store.Tx) (err error) {
			job, err = tx.Jobs().Get(id)
			return err
		})
		if err != nil {
			return job, err
		}
		if job.State.Ended() {
			if job.State != store.Succeeded {
				cause := "it says nothing"
				if job.Error != nil {
					cause = job.Error.Cause
				}
				return job, fmt.Errorf("job %s %s: %s", job.Kind, job.State, cause)
			}
			return job, nil
		}
		if job.State == store.WaitingToRetry && job.Attempt >= patientAttempts {
			return job, fmt.Errorf("job %s does not get on: %s", job.Kind, job.Error.Cause)
		}
		select {
		case <-ctx.Done():
			return job, context.Cause(ctx)
		case <-nudge:
			changed()
		case <-time.After(time.Second): // progress is not always in the store
		}
	}
}

// patientAttempts is how often a step may fail before the story gives up on it.
const patientAttempts = 2

// record reads the machine's record.
func (p *player) record() (m store.Machine, err error) {
	err = p.rooms.Store.View(func(tx *store.Tx) (err error) {
		m, err = tx.Machines().Get(string(p.id))
		return err
	})
	return m, err
}

// sentBy adds up what a job's evidence says it sent.
func (p *player) sentBy(job store.Job) (n int64) {
	for _, step := range job.Steps {
		for _, fact := range step.Evidence {
			if fact.Name == "sent bytes" {
				sent, _ := strconv.ParseInt(fact.Value, 10, 64)
				n += sent
			}
		}
	}
	return n
}

// judgePoint opens a recovery point from the vault and asks the record about it.
func (p *player) judgePoint(ctx context.Context, point replication.RecoveryPoint) error {
	m, err := p.record()
	if err != nil {
		return err
	}
	shown := map[string]replication.Source{}
	for _, d := range m.Disks {
		view, err := p.rooms.Vault.View(ctx, d.ID, point.ID)
		if err != nil {
			return err
		}
		defer view.Close()
		shown[d.Key] = view
	}
	record, err := p.world.Record(p.name)
	if err != nil {
		return err
	}
	verdict, err := record.Judge(ctx, shown)
	if err != nil {
		return err
	}
	p.figures.PointsJudged++
	switch {
	case !verdict.OK:
		p.story.wrong(p, "recovery point %s: %s", point.ID, verdict.Why)
	case point.Consistency == replication.AppConsistent && !verdict.Clean:
		p.story.wrong(p, "recovery point %s is labeled application-consistent, and the workload was not at rest", point.ID)
	}
	p.judged[point.ID] = verdict.Sequence
	return nil
}

// judgeRunning freezes a running machine, reads its disks in full and asks the
// record about them. since is the point that its changes are counted from; the
// look must not make the site forget it.
func (p *player) judgeRunning(ctx context.Context, site string, ref hypervisor.Ref, since replication.PointID, what string) (err error) {
	release, err := p.rooms.Protection.Hold(ctx, p.id)
	if err != nil {
		return err
	}
	defer release()
	place, err := p.world.Site(site)
	if err != nil {
		return err
	}
	seen, err := place.Machine(ctx, ref)
	if err != nil {
		return err
	}
	request := hypervisor.PointRequest{Ref: ref, Point: "judgment", Want: replication.CrashConsistent, Since: map[string]replication.PointID{}}
	for _, d := range seen.Disks {
		request.Disks = append(request.Disks, d.Key)
		if since != "" {
			request.Since[d.Key] = since
		}
	}
	capture, err := place.BeginPoint(ctx, request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, capture.Rollback(context.WithoutCancel(ctx))) }()
	shown := map[string]replication.Source{}
	for _, d := range capture.Disks() {
		shown[d.Key()] = whole{d}
	}
	record, err := p.world.Record(p.name)
	if err != nil {
		return err
	}
	verdict, err := record.Judge(ctx, shown)
	if err != nil {
		return err
	}
	if !verdict.OK {
		p.story.wrong(p, "%s: %s", what, verdict.Why)
	}
	return nil
}

// whole is a captured disk read from end to end, whatever its capture says changed.
type whole struct{ hypervisor.CapturedDisk }

func (w whole) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		yield(replication.Region{Extent: replication.Extent{Length: w.Size()}}, nil)
	}
}

// judgeSource judges the machine at its primary site.
func (p *player) judgeSource(ctx context.Context, what string) error {
	m, err := p.record()
	if err != nil {
		return err
	}
	return p.judgeRunning(ctx, primary, p.ref, m.LastPoint.ID, what)
}
