package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"riparo/appliance"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

const (
	primary   = "milano"
	secondary = "torino"
	actor     = "demo"
	policy    = "demonstration"
)

// story is a run of the demonstration.
type story struct {
	Options
	appliance *appliance.Appliance
	world     *lab.World
	began     time.Time

	mu    sync.Mutex // guards why
	why   []string
	cast  []*player
	rooms appliance.Rooms
}

// Stage is where the story is told.
type Stage struct {
	Opened func(*appliance.Appliance) error // the console is up; may be nil
	Told   func(Result) error               // the story has ended
	Stay   bool                             // keep the appliance open until ctx ends
}

// Run tells the story once.
func Run(ctx context.Context, o Options, stage Stage) (err error) {
	if err := o.Check(); err != nil {
		return replication.Stopf("demo.options", "correct the option", "%w", err)
	}
	// A demonstration fails machines over and keeps its own policies: nothing for an
	// appliance that somebody works with.
	if _, err := os.Stat(filepath.Join(o.Data, "state.db")); err == nil {
		return &replication.Problem{Code: "demo.data", Cause: fmt.Sprintf("the folder %s has an appliance already", o.Data), Effect: "nothing was done",
			Action: "name a folder that is empty or not there yet; `riparo serve --data` opens the appliance that is there", Remedy: replication.Stop}
	}
	a, err := appliance.Open(ctx, appliance.Config{Data: o.Data, Listen: o.Listen, Version: o.Version, Log: o.Log, Logs: o.Logs, RetryUnit: time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	s := &story{Options: o, appliance: a, rooms: a.Rooms(), began: time.Now()}
	told := false
	group, working := errgroup.WithContext(ctx)
	working, stop := context.WithCancel(working)
	defer stop()
	group.Go(func() error { defer stop(); return a.Run(working) })
	group.Go(func() error {
		defer stop()
		if stage.Opened != nil {
			if err := stage.Opened(a); err != nil {
				return err
			}
		}
		result := s.result(s.tell(working))
		if ctx.Err() != nil {
			return ctx.Err() // somebody ended it; there is nothing to tell
		}
		if err := stage.Told(result); err != nil {
			return err
		}
		told = true
		if stage.Stay {
			<-working.Done()
		}
		return nil
	})
	if err := group.Wait(); !errors.Is(err, context.Canceled) || !told && ctx.Err() != nil {
		return err
	}
	return nil
}

// tell runs the acts in order. An error means that the story could not go on; what
// is merely not as it should be is kept in why.
func (s *story) tell(ctx context.Context) error {
	for _, act := range []func(context.Context) error{
		s.setTheStage, s.protect, s.replicate, s.judgePoints, s.test, s.failOver, s.changePoint, s.commit, s.judgeReplicas,
		s.reverse, s.failBack, s.judgeOriginals, s.readVault,
	} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// setTheStage makes two sites and the machines of the first one.
func (s *story) setTheStage(ctx context.Context) (err error) {
	if s.world, err = s.appliance.Lab(); err != nil {
		return err
	}
	for _, name := range []string{primary, secondary} {
		if err := s.appliance.AddSite(ctx, actor, store.Site{Name: name, Kind: "lab"}); err != nil {
			return err
		}
	}
	site, err := s.world.Site(primary)
	if err != nil {
		return err
	}
	names := []string{"WEB01", "SQL01", "ERP01"}
	for i := range s.Machines {
		name := fmt.Sprintf("APP%02d", i+1)
		if i < len(names) {
			name = names[i]
		}
		spec := lab.Spec{Name: name, Seed: s.Seed + uint64(i), Churn: s.Churn}
		for _, key := range []string{"vda", "vdb"} {
			spec.Disks = append(spec.Disks, lab.DiskSpec{Key: key, Size: s.DiskSize, InitialBytes: s.DiskSize / contentShare / lab.BlockSize * lab.BlockSize})
		}
		seen, err := site.AddMachine(spec)
		if err != nil {
			return err
		}
		s.cast = append(s.cast, &player{story: s, name: name, ref: seen.Ref, disks: len(spec.Disks), size: s.DiskSize * int64(len(spec.Disks))})
	}
	frequent := replication.DefaultPolicy()
	frequent.Name, frequent.CopyFrequency, frequent.AppConsistentFrequency = policy, replication.MinCopyFrequency, 10*time.Second
	if err := s.appliance.SavePolicy(ctx, api.Who{Name: actor}, frequent); err != nil {
		return err
	}
	s.Tell("%d machines with two disks of %s each run at %s; %s is the secondary site (both emulated: the embedded lab)",
		len(s.cast), bytesText(s.DiskSize), primary, secondary)
	return s.everybody(ctx, (*player).powerOn)
}

// everybody lets all players do something at the same time.
func (s *story) everybody(ctx context.Context, do func(*player, context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range s.cast {
		group.Go(func() error {
			if err := do(p, ctx); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// wrong keeps what is not as it should be.
func (s *story) wrong(p *player, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sentence := p.name + ": " + fmt.Sprintf(format, args...)
	s.why = append(s.why, sentence)
	p.wrong = true
	s.Tell("NOT VERIFIED: %s", sentence)
}

func (s *story) result(err error) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Result{Why: s.why, Seconds: seconds(time.Since(s.began)), Machines: []Machine{}}
	if err != nil {
		r.Why = append(r.Why, err.Error())
	}
	r.Verified = len(r.Why) == 0 && len(s.cast) > 0
	for _, p := range s.cast {
		p.figures.Verified = r.Verified || err == nil && !p.wrong
		r.Machines = append(r.Machines, p.figures)
	}
	return r
}

func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
