package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/appliance/notify"
	"riparo/store"
)

// TestHealthKnowsTheAlertsThatStand: a monitor that asks for health must hear of a vault
// that is nearly full.
func TestHealthKnowsTheAlertsThatStand(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	since := time.Now().Add(-time.Hour)
	if err := d.Rooms().Store.Update(func(tx *store.Tx) error {
		for _, a := range []store.Alert{
			{Kind: notify.VaultFull, Severity: store.SeverityCritical, Args: map[string]string{"percent": "91", "free_bytes": "1048576"}},
			{Kind: notify.BackupFailed, Severity: store.SeverityWarning, Cause: "nothing can be written to the folder /mnt/share", Action: "see that it is attached"},
			{Kind: notify.JobFailed, Subject: "j-1", Severity: store.SeverityWarning, Machine: "m-1", Name: "WEB01", Args: map[string]string{"verb": "test-failover"}, Cause: "it printed nothing"},
			{Kind: notify.CertificateEnd, Severity: store.SeverityWarning, Args: map[string]string{"end_time": "2026-12-01T12:00:00Z"}, Ended: since.Add(time.Minute)}, // over
		} {
			a.ID, a.Since = store.NewID(since), since
			if err := tx.Alerts().Put(a); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	status, out, _ := call(t.Context(), d.at("health")...)
	if status != 1 || strings.Contains(out, "certificate") || strings.Count(out, "WEB01") != 1 {
		t.Errorf("status %d, and it says\n%s", status, out)
	}
	for _, want := range []string{"vault: The vault is 91", "appliance: The appliance was not backed up", ": nothing can be written to the folder /mnt/share\n", "  remedy: see that it is attached\n",
		"WEB01: the job “Test failover” failed: it printed nothing\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("it says\n%swithout %q", out, want)
		}
	}
	if status, out, _ := call(t.Context(), d.at("health", "--json")...); status != 1 || !strings.Contains(out, `"code": "vault.full"`) || !strings.Contains(out, `"level": "critical"`) {
		t.Errorf("status %d, and as JSON\n%s", status, out)
	}
}

// TestHealthSaysNothingTwice: many an alert was raised for what is found anyway.
func TestHealthSaysNothingTwice(t *testing.T) {
	critical, warning := string(store.Critical), string(store.Warning)
	found := []trouble{{"vault", store.Finding{Code: "clock.ahead", Level: warning}}, {"WEB01", store.Finding{Code: notify.RPOBreached, Level: warning}},
		{"SQL01", store.Finding{Code: "both.active", Level: critical}}, {"site milano", store.Finding{Code: "site.unreachable"}}}
	alert := func(kind string, machine, name string) store.Alert {
		return store.Alert{Kind: kind, Subject: machine, Machine: machine, Name: name, Severity: store.SeverityWarning, Args: map[string]string{}}
	}
	for _, row := range []struct {
		name  string
		alert store.Alert
		want  string // what it is about; empty: it is said already
	}{
		{"the clock", alert(notify.ClockAhead, "", ""), ""},
		{"points of a machine", alert(notify.RPOBreached, "m-1", "WEB01"), ""},
		{"points of another", alert(notify.RPOBreached, "m-2", "SQL01"), "SQL01"},
		{"the health of a machine", alert(notify.HealthCritical, "m-2", "SQL01"), ""},
		{"the health of a machine that has a warning only", alert(notify.HealthCritical, "m-1", "WEB01"), "WEB01"},
		{"a site", alert(notify.SiteAway, "", "milano"), ""},
		{"another site", alert(notify.SiteAway, "", "torino"), "site torino"},
		{"a full vault beside a clock", alert(notify.VaultFull, "", ""), "vault"},
		{"a job", alert(notify.JobFailed, "m-1", "WEB01"), "WEB01"},
		{"messages", alert(notify.MessageLost, "", "mail:a@b.example"), "appliance"},
	} {
		more, err := alertsBeside(found, []store.Alert{row.alert})
		if err != nil {
			t.Fatal(err)
		}
		about := ""
		for _, f := range more {
			about += f.About
			if f.Cause == "" || f.Code != row.alert.Kind {
				t.Errorf("%s: it says %+v", row.name, f)
			}
		}
		if about != row.want {
			t.Errorf("%s: said of %q, want %q", row.name, about, row.want)
		}
	}
}

func TestConfirmingTheClockSaysThatItIsDone(t *testing.T) {
	asked := 0
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/api/v1/vault/clock" {
			asked++
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"done":true}`))
	}))
	defer s.Close()
	ca := write(t, filepath.Join(t.TempDir(), "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	args := []string{"health", "confirm-clock", "--url", s.URL, "--token", "x", "--ca", ca}
	if status, out, errs := call(t.Context(), args...); status != 0 || !strings.Contains(out, "The clock is the time that the vault trusts") {
		t.Errorf("status %d, it says %q, %q", status, out, errs)
	}
	if v := must[map[string]bool](t, args...); !v["confirmed"] {
		t.Errorf("as JSON: %v", v)
	}
	if asked != 2 {
		t.Errorf("it was asked %d times, want twice", asked)
	}
}
