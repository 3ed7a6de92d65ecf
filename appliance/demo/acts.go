package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/vault"
	"riparo/store"
	"riparo/web/api"
)

func (s *story) protect(ctx context.Context) error { return s.everybody(ctx, (*player).protectMe) }

// replicate waits until every machine has points to choose from, and looks all the
// while how old the newest one is.
func (s *story) replicate(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not every machine had %d recovery points within %s", points, patience))
	defer cancel()
	ages := map[replication.MachineID][]float64{}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		report := s.appliance.Report()
		ready := true
		for _, p := range s.cast {
			if newest := report.Machines[p.id].PointTime; !newest.IsZero() {
				ages[p.id] = append(ages[p.id], report.Time.Sub(newest).Seconds())
			}
			list, err := s.appliance.Points(ctx, p.id)
			if err != nil {
				return err
			}
			ready = ready && len(list) >= points
		}
		if ready {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	for _, p := range s.cast {
		slices.Sort(ages[p.id])
		p.figures.RPOp50, p.figures.RPOp99 = quantile(ages[p.id], 50), quantile(ages[p.id], 99)
		s.Tell("%s has %d recovery points; the newest was %.1f s old at the median, %.1f s at p99", p.name, points, p.figures.RPOp50, p.figures.RPOp99)
	}
	return nil
}

// quantile of sorted values.
func quantile(sorted []float64, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	v := sorted[(len(sorted)-1)*percent/100]
	return float64(int64(v*1000+0.5)) / 1000
}

// judgePoints opens every point and judges it.
func (s *story) judgePoints(ctx context.Context) error {
	err := s.everybody(ctx, func(p *player, ctx context.Context) error {
		list, err := s.appliance.Points(ctx, p.id)
		if err != nil {
			return err
		}
		p.figures.RecoveryPoints = len(list)
		for _, point := range list {
			if err := p.judgePoint(ctx, point); err != nil {
				return err
			}
		}
		p.older = list[len(list)/2]
		return nil
	})
	if err == nil {
		s.Tell("every recovery point was opened and judged against the workload's record, byte by byte")
	}
	return err
}

// test starts every machine beside its source in an isolated network, and removes
// it again.
func (s *story) test(ctx context.Context) error {
	return s.everybody(ctx, func(p *player, ctx context.Context) error {
		job, err := p.ask(ctx, api.Request{Verb: lifecycle.TestFailover, Point: p.older.ID})
		if err != nil {
			return err
		}
		p.figures.TestSeconds = seconds(job.Ended.Sub(job.Created))
		m, err := p.record()
		if err != nil {
			return err
		}
		if err := p.judgeRunning(ctx, secondary, hypervisor.Ref(m.Test.Ref), "", "the test machine"); err != nil {
			return err
		}
		if _, err := p.ask(ctx, api.Request{Verb: lifecycle.CleanupTest, Notes: "demonstration"}); err != nil {
			return err
		}
		s.Tell("%s was tested from %s in %.2f s beside its running source, and cleaned up", p.name, p.older.ID, p.figures.TestSeconds)
		return p.judgeSource(ctx, "the source after the test")
	})
}

// failOver loses the primary site.
func (s *story) failOver(ctx context.Context) error {
	s.Tell("the primary site is lost: unplanned failover, the sources are not touched")
	return s.everybody(ctx, func(p *player, ctx context.Context) error {
		job, err := p.ask(ctx, api.Request{Verb: lifecycle.UnplannedFailover})
		if err != nil {
			return err
		}
		p.figures.FailoverSeconds = seconds(job.Ended.Sub(job.Created))
		s.Tell("%s runs at %s after %.2f s", p.name, secondary, p.figures.FailoverSeconds)
		return nil
	})
}

func (s *story) changePoint(ctx context.Context) error {
	return s.everybody(ctx, func(p *player, ctx context.Context) error {
		if _, err := p.ask(ctx, api.Request{Verb: lifecycle.ChangePoint, Point: p.older.ID}); err != nil {
			return err
		}
		s.Tell("%s was changed to the older recovery point %s", p.name, p.older.ID)
		return nil
	})
}

func (s *story) commit(ctx context.Context) error {
	return s.everybody(ctx, func(p *player, ctx context.Context) error {
		_, err := p.ask(ctx, api.Request{Verb: lifecycle.Commit})
		if err == nil {
			s.Tell("%s is committed and independent of the vault", p.name)
		}
		return err
	})
}

// judgeReplicas reads the disks of the running replicas themselves.
func (s *story) judgeReplicas(ctx context.Context) error {
	if s.tamper != nil {
		if err := s.tamper(s); err != nil {
			return err
		}
	}
	return s.everybody(ctx, func(p *player, ctx context.Context) error {
		m, err := p.record()
		if err != nil {
			return err
		}
		return p.judgeRunning(ctx, secondary, hypervisor.Ref(m.Target.Ref), m.Failover.Point, "the replica")
	})
}

func (s *story) reverse(ctx context.Context) error {
	return s.everybody(ctx, func(p *player, ctx context.Context) error {
		job, err := p.ask(ctx, api.Request{Verb: lifecycle.ReverseReplicate})
		if err != nil {
			return err
		}
		p.figures.ReverseBytes = p.sentBy(job)
		s.Tell("%s replicates in reverse: %s of changes were sent", p.name, bytesText(p.figures.ReverseBytes))
		return nil
	})
}

func (s *story) failBack(ctx context.Context) error {
	return s.everybody(ctx, func(p *player, ctx context.Context) error {
		job, err := p.ask(ctx, api.Request{Verb: lifecycle.Failback})
		if err != nil {
			return err
		}
		p.figures.FailbackSeconds = seconds(job.Ended.Sub(job.Created))
		s.Tell("%s is back at %s after %.2f s", p.name, primary, p.figures.FailbackSeconds)
		return nil
	})
}

// judgeOriginals reads the disks of the originals, and every point that the vault
// has by now.
func (s *story) judgeOriginals(ctx context.Context) error {
	return s.everybody(ctx, func(p *player, ctx context.Context) error {
		if err := p.judgeSource(ctx, "the original after the failback"); err != nil {
			return err
		}
		list, err := s.appliance.Points(ctx, p.id)
		if err != nil {
			return err
		}
		p.figures.RecoveryPoints = max(p.figures.RecoveryPoints, len(list))
		for _, point := range list {
			if _, done := p.judged[point.ID]; done {
				continue
			}
			if err := p.judgePoint(ctx, point); err != nil {
				return err
			}
		}
		return nil
	})
}

// readVault reads everything in the vault again.
func (s *story) readVault(ctx context.Context) error {
	report, err := s.rooms.Vault.Verify(ctx, vault.VerifyOptions{})
	if err != nil {
		return err
	}
	for _, damage := range report.Damage {
		for _, p := range s.cast {
			if m, err := p.record(); err == nil && slices.ContainsFunc(m.Disks, func(d store.Disk) bool { return d.ID == damage.Disk }) {
				s.wrong(p, "the vault is damaged: disk %s %s: %s", damage.Disk, damage.Extent, damage.Reason)
			}
		}
	}
	if len(report.Damage) == 0 {
		s.Tell("the vault was read again from end to end and is whole")
	}
	return nil
}
