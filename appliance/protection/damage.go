package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/vault"
	"riparo/store"
)

// codeDamaged is the finding that the vault does not hold all that a machine's points
// need.
const codeDamaged = "vault.damaged"

// damageOf is what is known to be damaged of a machine, and was not healed.
func (p *Protector) damageOf(ctx context.Context, m store.Machine) ([]vault.Damage, error) {
	var all []vault.Damage
	for _, d := range m.Disks {
		found, err := p.sink.Found(ctx, d.ID)
		if errors.Is(err, replication.ErrUnknownDisk) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("damage of disk %s: %w", d.ID, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// quarantine notes on points which of their bytes cannot be read back.
func quarantine(points []replication.RecoveryPoint, damage []vault.Damage) {
	at := make(map[replication.PointID]int, len(points))
	if len(damage) > 0 {
		for i, point := range points {
			at[point.ID] = i
		}
	}
	for _, d := range joined(damage) {
		for _, id := range d.Points {
			if i, ok := at[id]; ok && len(points[i].Damage) < replication.MaxDamage {
				points[i].Damage = append(points[i].Damage, replication.Damage{Disk: d.Disk, Offset: d.Extent.Offset, Length: d.Extent.Length})
			}
		}
	}
}

// joined makes one of damage that follows one another on a disk, in the same points.
func joined(damage []vault.Damage) []vault.Damage {
	var all []vault.Damage
	for _, d := range damage {
		if n := len(all); n > 0 && all[n-1].Disk == d.Disk && all[n-1].Extent.End() == d.Extent.Offset && !d.Map && slices.Equal(all[n-1].Points, d.Points) {
			all[n-1].Extent.Length += d.Extent.Length
			continue
		}
		all = append(all, d)
	}
	return all
}

// heal mends what the vault is known to have lost of a machine from its disks as they
// stand frozen. A block that the source still has as it was is restored in all points.
// One that it has overwritten stays damaged in the points that need it; the head takes
// what the source has now. Failing at it costs no recovery point: it is tried again
// with the next one.
func (p *Protector) heal(ctx context.Context, m store.Machine, captured []hypervisor.CapturedDisk, progress func(string, int64, int64)) (news []store.Event) {
	for _, c := range captured {
		i := slices.IndexFunc(m.Disks, func(d store.Disk) bool { return d.Key == c.Key() })
		if i < 0 {
			continue
		}
		id := m.Disks[i].ID
		found, err := p.sink.Found(ctx, id)
		if err != nil || !slices.ContainsFunc(found, func(d vault.Damage) bool { return d.Head || len(d.Points) > 0 }) {
			continue
		}
		progress("healing "+c.Key(), 0, 0)
		healed, left, err := p.sink.HealFound(ctx, id, c)
		if err != nil {
			p.log.Warn("damage in the vault was not healed; it is tried again with the next recovery point", "machine", m.Name, "disk", id, "error", err)
		}
		if len(healed) > 0 {
			news = append(news, store.Event{Severity: store.SeverityInfo, Code: "vault.healed",
				Text: fmt.Sprintf("%d damaged places of disk %s were healed from the source: every point that needs them reads right again (%s)", len(healed), c.Key(), places(healed)),
				Args: map[string]string{"disk": c.Key(), "count": fmt.Sprint(len(healed)), "places": places(healed)}})
		}
		if lost := left[:len(left):len(left)]; len(healed) > 0 && len(lost) > 0 {
			news = append(news, store.Event{Severity: store.SeverityWarning, Code: "vault.not-healed",
				Text: fmt.Sprintf("%d damaged places of disk %s cannot be healed: the source has overwritten them (%s); these points stay damaged there: %s", len(lost), c.Key(), places(lost), pointNames(lost)),
				Args: map[string]string{"disk": c.Key(), "count": fmt.Sprint(len(lost)), "places": places(lost), "points": pointNames(lost)}})
		}
	}
	return news
}

// watchDamage raises, renews and ends the finding that the vault is damaged where a
// machine's points are.
func (p *Protector) watchDamage(ctx context.Context, m store.Machine) {
	damage, err := p.damageOf(ctx, m)
	var f *store.Finding
	switch {
	case err != nil:
		problem := replication.AsProblem(err)
		if problem.Code != vault.CodeDamaged && problem.Code != vault.CodeIndex {
			return
		}
		f = &store.Finding{Code: codeDamaged, Level: string(store.Critical), Cause: problem.Cause, Effect: problem.Effect, Action: problem.Action}
	case len(damage) > 0:
		f = damageFinding(damage)
	case !p.sink.ScrubState().Rechecked:
		return // what was known before a restart was not looked for again
	}
	i := slices.IndexFunc(m.Health.Findings, func(k store.Finding) bool { return k.Code == codeDamaged })
	switch {
	case f == nil && i < 0, f != nil && i >= 0 && m.Health.Findings[i].Cause == f.Cause && m.Health.Findings[i].Level == f.Level:
		return
	}
	var events []store.Event
	switch {
	case f == nil:
		events = append(events, store.Event{Severity: store.SeverityInfo, Code: "vault.whole", Text: "no damage is left in what the vault keeps of this machine"})
	case i < 0:
		events = append(events, store.Event{Severity: f.Level, Code: codeDamaged, Text: f.Cause, Action: f.Action})
	}
	_, err = p.Change(m.ID, func(m *store.Machine) error {
		if f == nil {
			clearFindings(m, func(code string) bool { return code == codeDamaged })
			return nil
		}
		f.Since = p.now()
		setFinding(m, *f)
		return nil
	}, events...)
	if err != nil {
		p.log.Error("damage in the vault was not recorded", "machine", m.ID, "error", err)
	}
}

// damageFinding puts damage into words. It is critical where a point needs what is
// damaged.
func damageFinding(damage []vault.Damage) *store.Finding {
	if !slices.ContainsFunc(damage, func(d vault.Damage) bool { return !d.Map }) {
		return &store.Finding{Code: codeDamaged, Level: string(store.Warning),
			Cause:  fmt.Sprintf("a map of disk %s in the vault is damaged", damage[0].Disk),
			Effect: "nothing is lost, but what retention lets go of the disk gives no room back",
			Action: "start the appliance again: the map is made anew from the log; and check the storage under the vault"}
	}
	points := pointsOf(damage)
	head := slices.ContainsFunc(damage, func(d vault.Damage) bool { return d.Head })
	f := &store.Finding{Code: codeDamaged, Level: string(store.Critical),
		Cause:  fmt.Sprintf("%d places of the vault are damaged (%s), and %d recovery points need them", len(damage), places(damage), len(points)),
		Effect: "these points are incomplete there and are not offered as the latest; all others are whole",
		Action: "check the storage under the vault; what the source still has is healed from it with the next recovery point, the other points go with the retention"}
	if len(points) == 0 && !head {
		f.Level = string(store.Warning)
		f.Effect = "no recovery point needs them"
	}
	return f
}

// maxNamed bounds what is named in a sentence.
const maxNamed = 4

// places names where damage is: "vda [65536+65536], …".
func places(list []vault.Damage) string {
	return named(len(list), func(i int) string {
		d := list[i]
		switch {
		case d.Map:
			return fmt.Sprintf("a map of %s", d.Disk)
		case d.Extent.Length == 0:
			return fmt.Sprintf("the log of %s, segment %d", d.Disk, d.Segment)
		}
		return fmt.Sprintf("%s %s", d.Disk, d.Extent)
	})
}

// pointsOf are the points that need what is damaged, each once. Many places are needed by
// the same ones.
func pointsOf(list []vault.Damage) (ids []replication.PointID) {
	known := map[replication.PointID]bool{}
	var before []replication.PointID
	for _, d := range list {
		if slices.Equal(d.Points, before) {
			continue
		}
		before = d.Points
		for _, id := range d.Points {
			if !known[id] {
				known[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func pointNames(list []vault.Damage) string {
	ids := pointsOf(list)
	if len(ids) == 0 {
		return "none"
	}
	return named(len(ids), func(i int) string { return string(ids[i]) })
}

func named(n int, name func(int) string) string {
	var words []string
	for i := range min(n, maxNamed) {
		words = append(words, name(i))
	}
	if n > maxNamed {
		words = append(words, fmt.Sprintf("and %d more", n-maxNamed))
	}
	return strings.Join(words, ", ")
}
