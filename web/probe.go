package web

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"riparo/store"
)

// probeTime bounds a sign of life.
const probeTime = 5 * time.Second

// healthz says that the daemon answers.
func (k *Console) healthz(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
}

// readyz says whether the daemon can do its work. The reason is in the log, not in
// the answer: anybody may ask.
func (k *Console) readyz(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	ctx, cancel := contextWithTimeout(r, probeTime)
	defer cancel()
	if err := k.ready(ctx); err != nil {
		k.Logger.Warn("not ready", "error", err)
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ready\n"))
}

func (k *Console) ready(ctx context.Context) error {
	if _, err := k.Identity.Claimed(); err != nil {
		return err
	}
	if k.Ready != nil {
		return k.Ready(ctx)
	}
	return nil
}

// metrics are the figures of the report and the records, read when asked for.
func (k *Console) metrics(w http.ResponseWriter, r *http.Request) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector{k, r.Context()})
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(w, r)
}

type collector struct {
	console *Console
	ctx     context.Context
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("riparo_"+name, help, labels, nil)
}

var (
	metricInfo     = describe("info", "Always 1; the version is a label.", "version")
	metricRPO      = describe("rpo_seconds", "Age of the newest recovery point of a machine. Absent when unknown.", "machine", "id")
	metricLimit    = describe("rpo_threshold_seconds", "RPO threshold of the machine's policy. Absent when there is none.", "machine", "id")
	metricState    = describe("machine_state", "1 for the state that the machine is in.", "machine", "id", "state")
	metricHealth   = describe("machine_health", "0 healthy, 1 warning, 2 critical. Absent when not applicable.", "machine", "id")
	metricSent     = describe("sent_bytes_per_second", "What replication sends, over all machines.")
	metricMachine  = describe("machine_sent_bytes_per_second", "What replication sends of a machine.", "machine", "id")
	metricCycle    = describe("machine_last_cycle_seconds", "How long the last replication cycle took. Absent before the first.", "machine", "id")
	metricJobs     = describe("jobs_unfinished", "Jobs that have not ended, by state.", "state")
	metricStored   = describe("vault_stored_bytes", "What the vault takes.")
	metricLogical  = describe("vault_logical_bytes", "Size of all protected disks.")
	metricFree     = describe("vault_free_bytes", "Free space of the vault's volume. Absent when unknown.")
	metricPoints   = describe("vault_recovery_points", "Recovery points in the vault.")
	metricRead     = describe("vault_scrub_done_bytes", "What the pass under way has read again and checked.")
	metricReadAll  = describe("vault_scrub_total_bytes", "What there is to read in it.")
	metricPasses   = describe("vault_scrub_passes_total", "Passes over the whole vault that were completed.")
	metricReadLast = describe("vault_scrub_completed_timestamp_seconds", "When the last one was. Absent before the first.")
	metricRot      = describe("vault_damaged_places", "Places of the vault that are damaged and not healed.")
	metricAlarm    = describe("machine_ransomware_alarm", "1 while disks of the machine seem to be being encrypted.", "machine", "id")
	metricClock    = describe("vault_clock_ahead", "1 while the clock is ahead of the time that the vault trusts.")
	metricSites    = describe("site_reachable", "1 when the last contact with the site succeeded.", "site")
	metricAlerts   = describe("alerts_active", "Alerts that have not ended, by kind and severity.", "kind", "severity")
	metricWaiting  = describe("notifications_waiting", "Messages that have still to go out.")
	metricBackup   = describe("backup_timestamp_seconds", "When the newest backup of the appliance itself was made. Absent before the first.")
	metricEvery    = describe("backup_interval_seconds", "The time between two backups of the appliance itself. Absent when none is planned.")
	metricCert     = describe("certificate_end_timestamp_seconds", "When the certificate of the console ends.")
	metricSessions = describe("replication_sessions", "Machines whose replication is moving data now.")
	metricPointAt  = describe("newest_point_timestamp_seconds", "When the newest recovery point of a machine was taken.", "machine", "id")
	metricLag      = describe("machine_remaining_bytes", "What the transfer under way has still to send of a machine.", "machine", "id")
	metricSnapshot = describe("report_timestamp_seconds", "When these figures were taken.")
)

// Describe is part of [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricInfo, metricRPO, metricLimit, metricState, metricHealth, metricSent, metricMachine, metricCycle,
		metricJobs, metricStored, metricLogical, metricFree, metricPoints, metricSites, metricSnapshot,
		metricRead, metricReadAll, metricPasses, metricReadLast, metricRot, metricAlarm, metricClock,
		metricAlerts, metricWaiting, metricBackup, metricEvery, metricCert, metricSessions, metricPointAt, metricLag} {
		ch <- d
	}
}

// Collect is part of [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	r, err := c.console.records()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(metricInfo, err)
		return
	}
	rep := c.console.Appliance.Report()
	gauge(metricInfo, 1, c.console.Version)
	gauge(metricSnapshot, float64(rep.Time.UnixMilli())/1000)
	gauge(metricSent, rep.SentPerSecond)
	sessions := 0
	for _, m := range r.machines {
		id, mr := string(m.ID), rep.Machines[m.ID]
		if mr.Total > 0 {
			sessions++
			gauge(metricLag, float64(max(0, mr.Total-mr.Done)), m.Name, id)
		}
		if !mr.PointTime.IsZero() {
			gauge(metricPointAt, float64(mr.PointTime.UnixMilli())/1000, m.Name, id)
		}
		if age, known := rpo(m, mr, rep.Time); known && counted(m) {
			gauge(metricRPO, age.Seconds(), m.Name, id)
		}
		if limit := r.policies[m.Policy].RPOThreshold; limit > 0 {
			gauge(metricLimit, limit.Seconds(), m.Name, id)
		}
		gauge(metricState, 1, m.Name, id, string(m.State))
		if level, known := healthLevels[m.Health.Level]; known {
			gauge(metricHealth, level, m.Name, id)
		}
		gauge(metricMachine, mr.SentPerSecond, m.Name, id)
		alarm := 0.0
		if m.Alarm != nil {
			alarm = 1
		}
		gauge(metricAlarm, alarm, m.Name, id)
		if mr.LastCycle > 0 {
			gauge(metricCycle, mr.LastCycle.Seconds(), m.Name, id)
		}
	}
	gauge(metricSessions, float64(sessions))
	if err := c.upkeep(gauge); err != nil {
		c.console.Logger.Warn("the appliance gives no figures of itself", "error", err)
	}
	states := map[store.JobState]int{store.NotStarted: 0, store.InProgress: 0, store.WaitingForInput: 0, store.WaitingToRetry: 0}
	for _, j := range r.unfinished {
		states[j.State]++
	}
	for state, n := range states {
		gauge(metricJobs, float64(n), string(state))
	}
	for name, s := range r.sites {
		reachable := 0.0
		if s.Reachable {
			reachable = 1
		}
		gauge(metricSites, reachable, name)
	}
	if s, err := c.console.Appliance.Scrub(c.ctx); err != nil {
		c.console.Logger.Warn("the scrub gives no figures", "error", err)
	} else {
		gauge(metricRead, float64(s.DoneBytes))
		gauge(metricReadAll, float64(s.TotalBytes))
		ch <- prometheus.MustNewConstMetric(metricPasses, prometheus.CounterValue, float64(s.Passes))
		gauge(metricRot, float64(len(s.Findings)))
		if !s.Completed.IsZero() {
			gauge(metricReadLast, float64(s.Completed.Unix()))
		}
	}
	u, err := c.console.Appliance.Vault(c.ctx)
	if err != nil { // the other figures are still worth having
		c.console.Logger.Warn("the vault gives no figures", "error", err)
		return
	}
	gauge(metricStored, float64(u.StoredBytes))
	gauge(metricLogical, float64(u.LogicalBytes))
	gauge(metricPoints, float64(u.Points))
	ahead := 0.0
	if u.Clock != nil {
		ahead = 1
	}
	gauge(metricClock, ahead)
	if u.FreeBytes >= 0 {
		gauge(metricFree, float64(u.FreeBytes))
	}
}

var healthLevels = map[store.HealthLevel]float64{store.Healthy: 0, store.Warning: 1, store.Critical: 2}

// upkeep are the figures of the appliance itself.
func (c collector) upkeep(gauge func(*prometheus.Desc, float64, ...string)) error {
	s, err := c.console.Appliance.Setup(c.ctx)
	if err != nil {
		return err
	}
	gauge(metricCert, float64(s.Certificate.Ends.Unix()))
	return c.console.Store.View(func(tx *store.Tx) error {
		active := map[[2]string]int{}
		for a, err := range tx.ActiveAlerts().All() {
			if err != nil {
				return err
			}
			active[[2]string{a.Kind, a.Severity}]++
		}
		for k, n := range active {
			gauge(metricAlerts, float64(n), k[0], k[1])
		}
		waiting, err := tx.WaitingDeliveries().Count()
		if err != nil {
			return err
		}
		gauge(metricWaiting, float64(waiting))
		var plan store.BackupPlan
		var saved store.Saved
		if _, err := tx.Setting(store.SettingBackup, &plan); err != nil {
			return err
		}
		if _, err := tx.Setting(store.SettingSaved, &saved); err != nil {
			return err
		}
		if plan.Every > 0 {
			gauge(metricEvery, plan.Every.Seconds())
		}
		if !saved.Time.IsZero() {
			gauge(metricBackup, float64(saved.Time.Unix()))
		}
		return nil
	})
}
