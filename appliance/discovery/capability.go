package discovery

import (
	"fmt"

	"riparo/hypervisor"
	"riparo/replication"
)

// ChangeReader gives the capability to freeze and read machines of a site.
func (s *Sites) ChangeReader(site string) (hypervisor.ChangeReader, error) {
	return capability[hypervisor.ChangeReader](s, site, "reading changed blocks")
}

// OverlayBooter gives the capability to run machines on a recovery point.
func (s *Sites) OverlayBooter(site string) (hypervisor.OverlayBooter, error) {
	return capability[hypervisor.OverlayBooter](s, site, "running a machine on a recovery point")
}

// DiskOpener gives the capability to open disks of stopped machines.
func (s *Sites) DiskOpener(site string) (hypervisor.DiskOpener, error) {
	return capability[hypervisor.DiskOpener](s, site, "opening the disks of a stopped machine")
}

// ReadsStopped says why the disks of a site's stopped machines cannot be read; nil when they
// can, and when the site cannot be asked: whoever needs it then finds that out.
func (s *Sites) ReadsStopped(site string) error {
	p, err := s.Provider(site)
	if err != nil {
		return nil
	}
	if r, ok := p.(hypervisor.StoppedReader); ok {
		return r.ReadsStopped()
	}
	return nil
}

// ConsoleReader gives the capability to read serial consoles.
func (s *Sites) ConsoleReader(site string) (hypervisor.ConsoleReader, error) {
	return capability[hypervisor.ConsoleReader](s, site, "reading the serial console")
}

// Fencer gives the capability to keep machines from starting.
func (s *Sites) Fencer(site string) (hypervisor.Fencer, error) {
	return capability[hypervisor.Fencer](s, site, "fencing a machine")
}

func capability[C any](s *Sites, site, what string) (C, error) {
	var none C
	p, err := s.Provider(site)
	if err != nil {
		return none, err
	}
	if c, ok := p.(C); ok {
		return c, nil
	}
	return none, &replication.Problem{
		Code:   "site.incapable",
		Cause:  fmt.Sprintf("site %s (%s) does not offer %s", site, p.Describe().Kind, what),
		Action: "choose another site for this",
		Remedy: replication.Stop,
	}
}
