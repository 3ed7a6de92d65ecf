package providertest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"riparo/hypervisor"
)

// concurrently calls everything side by side; with the race detector this finds
// what a lock forgot.
func (s *suite) concurrently(t *testing.T) {
	s.running(t)
	ctx := s.context(t)
	var mu sync.Mutex
	var failures []error
	var all sync.WaitGroup
	repeat := func(what string, call func() error) {
		all.Go(func() {
			for range 5 {
				if err := call(); err != nil {
					mu.Lock()
					failures = append(failures, fmt.Errorf("%s: %w", what, err))
					mu.Unlock()
					return
				}
			}
		})
	}
	repeat("discover", func() error { _, err := s.p.Discover(ctx); return err })
	repeat("machine", func() error { _, err := s.p.Machine(ctx, s.ref); return err })
	repeat("networks", func() error { _, err := s.p.Networks(ctx); return err })
	repeat("start", func() error { return s.p.Start(ctx, s.ref, hypervisor.StartOptions{}) })
	for i := range 2 {
		spec := s.spec(fmt.Sprintf("riparo-suite-crowd%d", i), "m-suite/crowd")
		repeat("create and remove", func() error {
			m, err := s.p.Create(ctx, spec)
			if err != nil {
				return err
			}
			return s.p.Remove(ctx, m.Ref)
		})
	}
	if reader, ok := s.p.(hypervisor.ConsoleReader); ok {
		repeat("console", func() error { _, err := reader.Console(ctx, s.ref, 100); return err })
	}
	if reader, ok := s.p.(hypervisor.ChangeReader); ok {
		c := newCopies(t)
		repeat("capture", func() error {
			mu.Lock()
			point := s.point()
			mu.Unlock()
			capture, err := reader.BeginPoint(ctx, hypervisor.PointRequest{Ref: s.ref, Point: point, Disks: s.keys, Since: c.since()})
			if err != nil {
				return err
			}
			for _, d := range capture.Disks() {
				if _, err := c.applyDisk(ctx, d); err != nil {
					return errors.Join(err, capture.Rollback(ctx))
				}
				c.held[d.Key()] = point
			}
			if err := s.machine.Judge(ctx, c.sources()); err != nil {
				return errors.Join(err, capture.Rollback(ctx))
			}
			return capture.Commit(ctx)
		})
	}
	all.Wait()
	for _, err := range failures {
		t.Error(err)
	}
	s.machine.Write(t, s.ref)
}
