package appliance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/store"
)

// Lab opens the embedded lab of this appliance.
func (a *Appliance) Lab() (*lab.World, error) {
	a.labMu.Lock()
	defer a.labMu.Unlock()
	if a.lab != nil {
		return a.lab, nil
	}
	world, err := lab.OpenWorld(filepath.Join(a.config.Data, "lab"), lab.Options{})
	if err != nil {
		return nil, err
	}
	a.lab = world
	return world, nil
}

// maxLabSites bounds the lab sites of one appliance: each has a workload that runs.
const maxLabSites = 16

// labSite is a lab site as one who opened it holds it. The site is everybody's: to try a
// connection, or to come second with one, must not close it under the others.
type labSite struct{ *lab.Site }

// Close leaves the site open; the lab closes with the appliance.
func (labSite) Close() error { return nil }

// openLab opens a lab site and lets its workloads run for as long as the
// appliance does.
func (a *Appliance) openLab(name string) (hypervisor.Provider, error) {
	world, err := a.Lab()
	if err != nil {
		return nil, err
	}
	site, err := world.Site(name)
	if err != nil {
		return nil, err
	}
	a.labMu.Lock()
	defer a.labMu.Unlock()
	if a.labRuns[name] {
		return labSite{site}, nil
	}
	select {
	case a.labSites <- site:
		a.labRuns[name] = true
		return labSite{site}, nil
	default:
		return nil, replication.Stopf("lab.sites", "use the sites there are", "the lab has %d sites already", maxLabSites)
	}
}

// runLab lets the workloads of lab sites run.
func (a *Appliance) runLab(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case <-ctx.Done():
			return errors.Join(group.Wait(), ctx.Err())
		case site := <-a.labSites:
			group.Go(func() error { return site.Run(ctx) })
		}
	}
}

// labNames are what machines of a lab are called, in turn.
var labNames = []string{"WEB", "SQL", "ERP"}

const (
	// maxLabMachines bounds what a lab site is furnished with.
	maxLabMachines = 50
	labDiskBytes   = 512 << 20
	labContent     = 96 << 20  // of each disk, at first
	labChurn       = 256 << 10 // a second and machine
)

// furnishLab gives a lab site its machines. Its address says how many; empty is
// none. They run at once. Done again it goes on: a site that has them gets no more.
func (a *Appliance) furnishLab(ctx context.Context, s store.Site) error {
	if s.Kind != "lab" || s.Address == "" {
		return nil
	}
	want, err := strconv.Atoi(s.Address)
	if err != nil || want < 0 || want > maxLabMachines {
		return replication.Stopf("site.address", fmt.Sprintf("give the number of machines to make, 0 to %d", maxLabMachines), "a lab site has no address %q", s.Address)
	}
	world, err := a.Lab()
	if err != nil {
		return err
	}
	site, err := world.Site(s.Name)
	if err != nil {
		return err
	}
	there, err := site.Discover(ctx)
	if err != nil {
		return err
	}
	for n := 0; len(there) < want; n++ {
		name := fmt.Sprintf("%s%02d", labNames[n%len(labNames)], n/len(labNames)+1)
		if _, err := world.Record(name); err == nil { // it is somewhere in the lab
			continue
		}
		spec := lab.Spec{Name: name, Seed: uint64(n) + 1, Churn: labChurn}
		for _, key := range []string{"vda", "vdb"} {
			spec.Disks = append(spec.Disks, lab.DiskSpec{Key: key, Size: labDiskBytes, InitialBytes: labContent})
		}
		made, err := site.AddMachine(spec)
		if err == nil {
			err = site.Start(ctx, made.Ref, hypervisor.StartOptions{})
		}
		if err != nil {
			return err
		}
		there = append(there, made)
	}
	return nil
}
