package protection

import (
	"context"
	"time"
)

// watchEvery is how often what surrounds the machines is looked at: damage that the
// scrub found, and the room in the vault. Without findings it costs a read of the
// records.
const watchEvery = 2 * time.Second

// watch keeps health in line with the vault until ctx ends.
func (p *Protector) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		machines, err := p.machines.All()
		if err != nil {
			return err
		}
		for _, m := range machines {
			p.watchDamage(ctx, m)
		}
		p.watchRoom(machines)
	}
}

// watched are the findings that a cycle's success says nothing about.
func watched(code string) bool {
	return code == codeDamaged || code == codeSuspicion || code == codeRoom
}
