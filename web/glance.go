package web

import (
	"sync"
	"time"
)

// usageFor is how long the use of the vault, as it was measured, is good for live pages:
// measuring reads its folders and walks what every disk holds, and it moves slowly. Each
// pulse measures anew.
const usageFor = pulseEvery / 2

// glance keeps what was read last of the figures that the live pages share. What the
// pages of one telling say comes from one report: it is a copy of figures of every
// machine, and making it anew for each page and each language would cost more than most
// pages do.
type glance struct {
	mu      sync.Mutex // guards the rest; held while something is read
	reports time.Time  // when making the report began
	report  Report
	usages  time.Time // when measuring the vault began
	usage   VaultUsage
	curves  curves

	surveying sync.Mutex // guards the rest; held while a survey is made
	surveys   time.Time  // when it began
	survey    survey
}

// report gives how replication is doing, as fresh as the visit asks for. It is shared:
// nobody changes it.
func (k *Console) report(v visit) Report {
	if v.fresh.IsZero() {
		return k.Appliance.Report()
	}
	g := &k.glance
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reports.Before(v.fresh) {
		g.reports = time.Now()
		g.report = k.Appliance.Report()
	}
	return g.report
}

// vault gives how full the vault is. A live page may have it from a while ago.
func (k *Console) vault(v visit) (VaultUsage, error) {
	if v.fresh.IsZero() {
		return k.Appliance.Vault(v.ctx)
	}
	g := &k.glance
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.usages.Before(v.fresh.Add(-usageFor)) {
		return g.usage, nil
	}
	began := time.Now()
	u, err := k.Appliance.Vault(v.ctx)
	if err == nil {
		g.usages, g.usage = began, u
	}
	return u, err
}
