package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"runtime/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"riparo/replication"
	"riparo/store"
	"riparo/store/bundle"
	"riparo/store/redact"
	"riparo/web/api"
	"riparo/web/view"
)

// supportParts are what the support bundle has, and the secrets that are known not
// to be in it.
func (k *Console) supportParts(ctx context.Context) ([]bundle.Part, *redact.Values, error) {
	secrets := new(redact.Values)
	if k.Secrets != nil {
		secrets.Add(k.Secrets()...)
	}
	parts, err := bundle.Records(k.Store, secrets)
	if err != nil {
		return nil, nil, err
	}
	rest, err := k.supportRest(ctx)
	return append(parts, rest...), secrets, err
}

// supportRest are the parts that are no records.
func (k *Console) supportRest(ctx context.Context) (parts []bundle.Part, err error) {
	for _, p := range []struct {
		name, about string
		write       func(ctx context.Context, w *bufio.Writer) error
	}{
		{"health.json", "health", k.writeHealth},
		{"metrics.txt", "metrics", k.writeMetrics},
		{"goroutines.txt", "goroutines", func(_ context.Context, w *bufio.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 1) }},
	} {
		var now bytes.Buffer
		w := bufio.NewWriter(&now)
		p.write(ctx, w) // what keeps it from being written will stand in its place
		w.Flush()
		parts = append(parts, bundle.Text(p.name, p.about, int64(now.Len()), func(w *bufio.Writer) error { return p.write(ctx, w) }))
	}
	log, err := bundle.Log(k.Logs)
	return append(parts, log...), err
}

// writeHealth is what the probes and the report say just now.
func (k *Console) writeHealth(ctx context.Context, w *bufio.Writer) error {
	rep := k.Appliance.Report()
	ready := "ready"
	if err := k.ready(ctx); err != nil {
		ready = err.Error()
	}
	sites, err := k.Appliance.Discovered(ctx, false)
	reached := map[string]string{}
	for _, s := range sites {
		reached[s.Site.Name] = "reachable"
		if s.Problem != nil {
			reached[s.Site.Name] = s.Problem.Error()
		}
	}
	usage, vaultErr := k.Appliance.Vault(ctx)
	machines := map[replication.MachineID]any{}
	for id, m := range rep.Machines {
		machines[id] = map[string]any{"activity": m.Activity, "sent_bytes_per_second": m.SentPerSecond, "last_cycle_seconds": m.LastCycle.Seconds()}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(map[string]any{"time": k.Now().UTC(), "version": k.Version, "ready": ready, "sites": reached, "sites_error": text(err),
		"vault": usage, "vault_error": text(vaultErr), "sent_bytes_per_second": rep.SentPerSecond, "machines": machines})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// writeMetrics is what /metrics says.
func (k *Console) writeMetrics(ctx context.Context, w *bufio.Writer) error {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector{k, ctx})
	families, err := registry.Gather()
	for _, f := range families {
		if _, errWrite := expfmt.MetricFamilyToText(w, f); errWrite != nil {
			return errWrite
		}
	}
	return err
}

// supportPage says what will be in the bundle before it is made.
func (k *Console) supportPage(v visit) (built, error) {
	parts, err := bundle.RecordSizes(k.Store)
	if err != nil {
		return built{}, err
	}
	rest, err := k.supportRest(v.ctx)
	if err != nil {
		return built{}, err
	}
	parts = append(parts, rest...)
	w := v.words
	b := view.Bundle{}
	total := int64(0)
	for _, p := range parts {
		total += p.Size
		b.Parts = append(b.Parts, view.BundlePart{Name: p.Name, About: w.Named("bundle.part", p.About), Size: w.Bytes(p.Size)})
	}
	b.Total = w.N("bundle.total", len(parts), "Size", w.Bytes(total))
	return built{title: w.T("bundle.title"), place: "logs", body: view.BundlePage(b)}, nil
}

// bundled notes in the audit log that somebody had a bundle. It changes nothing, but
// it takes much out of the house.
func (k *Console) bundled(who api.Caller) {
	line := store.AuditLine{Actor: who.Name, Role: who.Role, Address: who.Address, Action: "support.bundle", Outcome: store.AuditDone}
	if _, err := k.Audit.Append(line); err != nil {
		k.Logger.Error("a support bundle is not in the audit log", "by", who.Name, "error", err)
	}
}

// packSupport sends the bundle.
func (k *Console) packSupport(w http.ResponseWriter, r *http.Request) {
	parts, secrets, err := k.supportParts(r.Context())
	if err != nil {
		k.fail(w, r, err)
		return
	}
	who := userOf(r)
	k.api.SendSupport(r.Context(), w, api.Caller{Name: who.Name, Role: who.Role, Address: addressOf(r)}, parts, secrets)
}
