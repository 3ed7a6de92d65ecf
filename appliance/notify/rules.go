package notify

import (
	"slices"
	"strconv"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// Kinds of alerts.
const (
	RPOBreached    = "rpo.breached"
	HealthCritical = "health.critical"
	SiteAway       = "site.away"
	JobFailed      = "job.failed"
	JobStuck       = "job.stuck"
	VaultFull      = "vault.full"
	ClockAhead     = "clock.ahead"
	DrillDue       = "drill.due"
	BackupFailed   = "backup.failed"
	CertificateEnd = "certificate.ending"
	MessageLost    = "message.lost"
)

// Kinds are all kinds of alerts, in the order in which people choose among them.
func Kinds() []string {
	return []string{RPOBreached, HealthCritical, SiteAway, JobFailed, JobStuck, VaultFull, ClockAhead, DrillDue, BackupFailed, CertificateEnd, MessageLost}
}

// World is what the rules look at, at one instant.
type World struct {
	Now      time.Time
	Machines []store.Machine
	Policies map[string]replication.Policy
	Sites    []Site
	Jobs     []Job
	// Stored and Free are bytes of the vault and of its volume; Free below 0 is
	// unknown.
	Stored, Free int64
	Plan         store.BackupPlan
	Saved        store.Saved
	Certificate  time.Time // its end; zero: unknown
	// Clock is what is wrong with the clock of the appliance; nil: nothing.
	Clock *replication.Problem
	Lost  []store.Delivery
}

// Site is a site and since when it does not answer.
type Site struct {
	Name    string
	Away    time.Time // zero: it answers
	Problem *replication.Problem
}

// Job is a job that has not ended, or one that failed and was not followed by one
// that succeeded.
type Job struct {
	store.Job
	Moved time.Time // when it last moved
}

const (
	// failedFor is how long a failed job is an alert when nothing follows it.
	failedFor = 7 * 24 * time.Hour
	// certificateWarn is when people begin to hear of the end of a certificate, and
	// certificateBad when it becomes urgent.
	certificateWarn = 30 * 24 * time.Hour
	certificateBad  = 7 * 24 * time.Hour
	// backupSlack is what a scheduled backup may be late.
	backupSlack = time.Hour
)

// Judge gives the alerts that should stand, each with its kind, subject, severity and
// words. It is a function of what it is given.
func Judge(w World, rules store.AlertRules) []store.Alert {
	var all []store.Alert
	raise := func(a store.Alert) {
		if !slices.Contains(rules.Off, a.Kind) {
			all = append(all, a)
		}
	}
	for _, m := range w.Machines {
		judgeMachine(w, m, raise)
	}
	for _, s := range w.Sites {
		if !s.Away.IsZero() && w.Now.Sub(s.Away) >= rules.SiteAway {
			a := store.Alert{Kind: SiteAway, Subject: s.Name, Name: s.Name, Severity: store.SeverityCritical, Args: map[string]string{"since_time": stamp(s.Away)}}
			if s.Problem != nil {
				a.Cause, a.Effect, a.Action = s.Problem.Cause, s.Problem.Effect, s.Problem.Action
			}
			raise(a)
		}
	}
	for _, j := range w.Jobs {
		judgeJob(w, j, rules, raise)
	}
	judgeVault(w, rules, raise)
	judgeAppliance(w, raise)
	for _, d := range w.Lost {
		a := store.Alert{Kind: MessageLost, Subject: d.Channel, Name: d.Channel, Severity: store.SeverityWarning, Args: map[string]string{"channel": d.Channel}}
		if d.Problem != nil {
			a.Cause, a.Action = d.Problem.Cause, d.Problem.Action
		}
		raise(a)
	}
	return all
}

func judgeMachine(w World, m store.Machine, raise func(store.Alert)) {
	alert := func(kind, severity string, args map[string]string) store.Alert {
		return store.Alert{Kind: kind, Subject: string(m.ID), Machine: string(m.ID), Name: m.Name, Severity: severity, Args: args}
	}
	if limit := w.Policies[m.Policy].RPOThreshold; limit > 0 && m.LastPoint != nil && counts(m) {
		// Its health knows also when the clock was set back since the point.
		known := slices.ContainsFunc(m.Health.Findings, func(f store.Finding) bool { return f.Code == RPOBreached })
		if age := w.Now.Sub(m.LastPoint.Time); age > limit || known {
			severity := store.SeverityWarning
			if age > 4*limit {
				severity = store.SeverityCritical
			}
			raise(alert(RPOBreached, severity, map[string]string{"limit_seconds": seconds(limit), "point_time": stamp(m.LastPoint.Time)}))
		}
	}
	for _, f := range m.Health.Findings {
		if f.Level != string(store.Critical) {
			continue
		}
		a := alert(HealthCritical, store.SeverityCritical, nil)
		a.Cause, a.Effect, a.Action = f.Cause, f.Effect, f.Action
		raise(a)
		break // the first tells that somebody has to look; the page has all
	}
	if m.State != lifecycle.Protected && m.State != lifecycle.ProtectedReverse {
		return
	}
	last := m.Created
	if d := m.LastDrill; d != nil && d.Passed {
		last = d.Finished
	}
	if w.Now.Sub(last) > lifecycle.DrillInterval {
		raise(alert(DrillDue, store.SeverityInfo, map[string]string{"last_time": stamp(last)}))
	}
}

// counts reports whether new points are expected of a machine.
func counts(m store.Machine) bool {
	switch m.State {
	case lifecycle.Protected, lifecycle.ProtectedReverse, lifecycle.ResyncRequired, lifecycle.Resyncing:
		return true
	}
	return false
}

func judgeJob(w World, j Job, rules store.AlertRules, raise func(store.Alert)) {
	a := store.Alert{Subject: j.ID, Machine: j.Machine, Name: j.Name, Severity: store.SeverityWarning, Args: map[string]string{"verb": j.Kind}}
	switch {
	case j.State == store.Failed && w.Now.Sub(j.Ended) < failedFor:
		a.Kind = JobFailed
		if j.Error != nil {
			a.Cause, a.Effect, a.Action = j.Error.Cause, j.Error.Effect, j.Error.Action
		}
		raise(a)
	case (j.State == store.InProgress || j.State == store.WaitingToRetry) && w.Now.Sub(j.Moved) >= rules.NoProgress:
		a.Kind = JobStuck
		a.Args["since_time"] = stamp(j.Moved)
		if j.Error != nil {
			a.Cause, a.Action = j.Error.Cause, j.Error.Action
		}
		raise(a)
	}
}

func judgeVault(w World, rules store.AlertRules, raise func(store.Alert)) {
	total := w.Stored + w.Free
	if w.Free < 0 || total <= 0 {
		return
	}
	percent := int(float64(w.Stored) * 100 / float64(total))
	a := store.Alert{Kind: VaultFull, Severity: store.SeverityWarning, Args: map[string]string{"percent": strconv.Itoa(percent), "free_bytes": strconv.FormatInt(w.Free, 10)}}
	switch {
	case percent >= rules.VaultBad:
		a.Severity = store.SeverityCritical
		raise(a)
	case percent >= rules.VaultWarn:
		raise(a)
	}
}

func judgeAppliance(w World, raise func(store.Alert)) {
	if w.Plan.Every > 0 {
		a := store.Alert{Kind: BackupFailed, Severity: store.SeverityWarning, Args: map[string]string{"last_time": stamp(w.Saved.Time)}}
		if p := w.Saved.Problem; p != nil {
			a.Cause, a.Action = p.Cause, p.Action
			raise(a)
		} else if !w.Saved.Time.IsZero() && w.Now.Sub(w.Saved.Time) > w.Plan.Every+backupSlack {
			raise(a)
		}
	}
	if p := w.Clock; p != nil {
		raise(store.Alert{Kind: ClockAhead, Severity: store.SeverityWarning, Cause: p.Cause, Effect: p.Effect, Action: p.Action})
	}
	if left := w.Certificate.Sub(w.Now); !w.Certificate.IsZero() && left < certificateWarn {
		a := store.Alert{Kind: CertificateEnd, Severity: store.SeverityWarning, Args: map[string]string{"end_time": stamp(w.Certificate)}}
		if left < certificateBad {
			a.Severity = store.SeverityCritical
		}
		raise(a)
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d.Seconds()), 10) }
