package protection

import (
	"fmt"
	"slices"
	"time"

	"riparo/replication"
	"riparo/store"
)

// findingOf keeps a problem as a finding.
func findingOf(p *replication.Problem, level store.HealthLevel, now time.Time) store.Finding {
	code := p.Code
	if code == "" || code == "internal" {
		code = "replication.failed"
	}
	return store.Finding{Code: code, Level: string(level), Cause: p.Cause, Effect: p.Effect, Action: p.Action, Since: now}
}

// setFinding adds or renews a finding and computes the level again. One code is
// one finding: it keeps the time when it first showed.
func setFinding(m *store.Machine, f store.Finding) {
	if i := slices.IndexFunc(m.Health.Findings, func(k store.Finding) bool { return k.Code == f.Code }); i >= 0 {
		f.Since = m.Health.Findings[i].Since
		m.Health.Findings[i] = f
	} else {
		m.Health.Findings = append(m.Health.Findings, f)
	}
	level(m)
}

// clearFindings removes the findings that drop chooses.
func clearFindings(m *store.Machine, drop func(code string) bool) {
	m.Health.Findings = slices.DeleteFunc(m.Health.Findings, func(f store.Finding) bool { return drop(f.Code) })
	level(m)
}

func level(m *store.Machine) {
	m.Health.Level = store.Healthy
	for _, f := range m.Health.Findings {
		if f.Level == string(store.Critical) {
			m.Health.Level = store.Critical
			return
		}
		m.Health.Level = store.Warning
	}
}

const (
	codeRPO        = "rpo.breached"
	codeBothActive = "both.active"
)

// review computes the health of a machine whose cycle succeeded: what a success
// disproves goes away.
func (p *Protector) review(id replication.MachineID) {
	before, policy, err := p.machine(id)
	if err != nil {
		return
	}
	if before.Health.Level == store.Healthy && len(before.Health.Findings) == 0 {
		return
	}
	_, err = p.Change(id, func(m *store.Machine) error {
		clearFindings(m, func(code string) bool {
			return code != codeBothActive && !watched(code) && (code != codeRPO || !p.breached(*m, policy, p.now()))
		})
		return nil
	})
	if err != nil {
		p.log.Error("health was not recorded", "machine", id, "error", err)
	}
}

// watchRPO raises and ends the finding that a machine's newest point is too old.
// It raises an event once per breach.
func (p *Protector) watchRPO(m store.Machine, policy replication.Policy) {
	late := p.breached(m, policy, p.now())
	known := slices.ContainsFunc(m.Health.Findings, func(f store.Finding) bool { return f.Code == codeRPO })
	if late == known || !late && !cycles(m.State) {
		return // a machine that is not replicated neither meets nor breaks its objective
	}
	var events []store.Event
	if late {
		events = append(events, store.Event{Severity: "warning", Code: codeRPO,
			Text: fmt.Sprintf("the newest recovery point is older than %s", policy.RPOThreshold), Args: map[string]string{"threshold": policy.RPOThreshold.String()}})
	} else {
		events = append(events, store.Event{Severity: "info", Code: "rpo.met", Text: "the recovery point objective is met again"})
	}
	_, err := p.Change(m.ID, func(m *store.Machine) error {
		if !late {
			clearFindings(m, func(code string) bool { return code == codeRPO })
			return nil
		}
		setFinding(m, store.Finding{Code: codeRPO, Level: string(store.Warning), Since: p.now(),
			Cause:  fmt.Sprintf("the newest recovery point is older than %s", policy.RPOThreshold),
			Effect: "a failover now would lose more than agreed",
			Action: "see what replication waits for, or raise the threshold in the policy"})
		return nil
	}, events...)
	if err != nil {
		p.log.Error("the recovery point objective was not recorded", "machine", m.ID, "error", err)
	}
}

func (p *Protector) breached(m store.Machine, policy replication.Policy, now time.Time) bool {
	if policy.RPOThreshold == 0 || m.LastPoint == nil || !cycles(m.State) {
		return false
	}
	return p.age(m, now) > policy.RPOThreshold
}

// IsBothActive reports whether the alarm stands that both copies of a machine run.
func IsBothActive(m store.Machine) bool {
	return slices.ContainsFunc(m.Health.Findings, func(f store.Finding) bool { return f.Code == codeBothActive })
}

// BothActive records whether the source of a machine that failed over was seen
// running beside its replica.
func (p *Protector) BothActive(id replication.MachineID, both bool) error {
	var events []store.Event
	if both {
		events = append(events, store.Event{Severity: "critical", Code: codeBothActive,
			Text:   "the source runs while the replica owns the machine: both are active",
			Action: "shut the source down; it cannot write to the vault any more"})
	}
	_, err := p.Change(id, func(m *store.Machine) error {
		if !both {
			clearFindings(m, func(code string) bool { return code == codeBothActive })
			return nil
		}
		setFinding(m, store.Finding{Code: codeBothActive, Level: string(store.Critical), Since: p.now(),
			Cause:  "the source runs again while the replica owns the machine",
			Effect: "what is written to the source is lost at reverse replication; its data cannot reach the vault",
			Action: "shut the source down"})
		return nil
	}, events...)
	return err
}
