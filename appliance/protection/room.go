package protection

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"riparo/replication/vault"
	"riparo/store"
)

// codeRoom is the finding that the room in the vault comes to an end.
const codeRoom = "vault.room"

// roomierBy: a level ends when a twentieth more than its threshold is free, so that one
// does not come and go with every point.
const roomierBy = 20

// steady is the level that is shown: it rises at once and falls with hysteresis.
func steady(shown vault.Level, p vault.Pressure) vault.Level {
	for level := shown; level > p.Level; level-- {
		threshold := map[vault.Level]int64{vault.Warning: p.Warn, vault.Slowed: p.Slow, vault.Stopped: p.Stop}[level]
		if p.Free < threshold+threshold/roomierBy {
			return level
		}
	}
	return p.Level
}

// watchRoom tells when the room in the vault comes to an end, once for each level, and
// when there is enough again: then machines that waited for it go on at once.
func (p *Protector) watchRoom(machines []store.Machine) {
	pressure := p.sink.Pressure()
	before := p.level
	p.level = steady(before, pressure)
	var f *store.Finding
	switch p.level {
	case vault.Warning:
		f = &store.Finding{Level: string(store.Warning), Effect: "nothing yet; replication goes on", Action: "add space or shorten the retention"}
	case vault.Slowed:
		f = &store.Finding{Level: string(store.Warning), Effect: "replication is slowed down, and retention is applied at once", Action: "add space or shorten the retention"}
	case vault.Stopped:
		f = &store.Finding{Level: string(store.Critical), Effect: "replication waits; every recovery point is safe", Action: "add space or shorten the retention; replication goes on by itself"}
	}
	if f != nil {
		f.Code, f.Since = codeRoom, p.now()
		f.Cause = fmt.Sprintf("the room in the vault comes to an end: level %s", p.level)
	}
	if p.level != before {
		e := store.Event{Severity: store.SeverityInfo, Code: "vault.roomy", Text: "there is enough room in the vault again"}
		if f != nil {
			e = store.Event{Severity: f.Level, Code: codeRoom, Text: fmt.Sprintf("%s, %d MiB of %d MiB are free; %s", f.Cause, pressure.Free>>20, pressure.Total>>20, f.Effect), Action: f.Action,
				Args: map[string]string{"level": p.level.String(), "free": fmt.Sprint(pressure.Free)}}
		}
		if err := p.store.Update(func(tx *store.Tx) error { return tx.AddEvent(e) }); err != nil {
			p.log.Error("the room in the vault was not told", "error", err)
		}
	}
	if p.level == vault.Warning {
		f = nil // it does nothing to a machine yet
	}
	for _, m := range machines {
		i := slices.IndexFunc(m.Health.Findings, func(k store.Finding) bool { return k.Code == codeRoom })
		waits := m.Failures > 0 && slices.ContainsFunc(m.Health.Findings, func(k store.Finding) bool { return strings.HasPrefix(k.Code, vault.CodeFull) })
		goOn := waits && p.level < vault.Stopped && before == vault.Stopped
		if !goOn && (f == nil && i < 0 || f != nil && i >= 0 && m.Health.Findings[i].Cause == f.Cause) {
			continue
		}
		_, err := p.Change(m.ID, func(m *store.Machine) error {
			clearFindings(m, func(code string) bool { return code == codeRoom })
			if f != nil {
				setFinding(m, *f)
			}
			if goOn {
				m.NextTry = time.Time{}
			}
			return nil
		})
		if err != nil {
			p.log.Error("the room in the vault was not recorded", "machine", m.ID, "error", err)
		}
		if goOn {
			p.Nudge(m.ID)
		}
	}
}

// Thin applies retention to all machines now: room is short.
func (p *Protector) Thin(ctx context.Context) {
	ids, err := p.protected()
	if err != nil {
		p.log.Warn("retention was not applied early", "error", err)
		return
	}
	for _, id := range ids {
		if err := p.Prune(ctx, id); err != nil && ctx.Err() == nil {
			p.log.Warn("retention was not applied early", "machine", id, "error", err)
		}
	}
}
