package web_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"riparo/store"
	"riparo/web"
)

var figureNames = regexp.MustCompile(`\briparo_[a-z_]+`)

// TestMonitoringNamesOnlyFiguresThatExist asks for the figures of a house in which
// everything happens.
func TestMonitoringNamesOnlyFiguresThatExist(t *testing.T) {
	h := newHouse(t, true).claimed()
	err := h.store.Update(func(tx *store.Tx) error {
		for name, value := range map[string]any{store.SettingBackup: store.BackupPlan{Every: time.Hour}, store.SettingSaved: store.Saved{Time: time.Now()}} {
			if err := tx.SetSetting(name, value); err != nil {
				return err
			}
		}
		return tx.Alerts().Put(store.Alert{ID: "1", Kind: "job.failed", Severity: "warning", Since: time.Now()})
	})
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for line := range strings.SplitSeq(h.browser().get("/metrics").body, "\n") {
		if name, _, found := strings.Cut(line, "{"); found && strings.HasPrefix(name, "riparo_") {
			given[name] = true
		} else if name, _, found := strings.Cut(line, " "); found && strings.HasPrefix(name, "riparo_") {
			given[name] = true
		}
	}
	if len(given) < 20 {
		t.Fatalf("the appliance gives %d figures: the test looks at the wrong place", len(given))
	}
	for _, file := range []string{"rules.yml", "dashboard.json"} {
		text, err := web.Monitoring(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range figureNames.FindAllString(string(text), -1) {
			if !given[name] {
				t.Errorf("%s names %s, which /metrics does not give", file, name)
			}
		}
	}
}

func TestTheDashboardIsWhole(t *testing.T) {
	text, err := web.Monitoring("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range d.Panels {
		if seen[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %+v", p)
		}
		seen[p.ID] = true
	}
	if len(d.Panels) < 10 {
		t.Errorf("%d panels", len(d.Panels))
	}
}

// TestPrometheusTakesTheRules asks its own tool, also about the queries of the
// dashboard, which are put into rules for that.
func TestPrometheusTakesTheRules(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian package prometheus)")
	}
	rules, err := web.Monitoring("rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	write(t, file, string(rules))
	if out, err := exec.CommandContext(t.Context(), tool, "check", "rules", "--lint-fatal", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	text, err := web.Monitoring("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("groups:\n- name: dashboard\n  rules:\n")
	n := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			n++
			expression, _ := json.Marshal(strings.ReplaceAll(target.Expr, "$instance", "x"))
			b.WriteString("  - record: q" + strings.Repeat("x", n) + "\n    expr: " + string(expression) + "\n")
		}
	}
	write(t, file, b.String())
	if out, err := exec.CommandContext(t.Context(), tool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	write(t, file, strings.Replace(string(rules), "riparo_machine_health == 2", "riparo_machine_health === 2", 1))
	if err := exec.CommandContext(t.Context(), tool, "check", "rules", file).Run(); err == nil {
		t.Error("a rule with a mistake is taken: the test shows nothing")
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
