package web

import (
	"cmp"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// settingsPages are the pages of the settings, in their order, and who may see them.
var settingsPages = []struct{ key, href, route string }{
	{"all", "/settings", "GET /settings"},
	{"appliance", "/settings/appliance", "GET /settings/appliance"},
	{"certificate", "/settings/certificate", "GET /settings/certificate"},
	{"notifications", "/settings/notifications", "GET /settings/notifications"},
	{"backup", "/settings/backup", "GET /settings/backup"},
	{"about", "/settings/about", "GET /settings/about"},
}

func settingsTabs(v visit, current string) []view.Choice {
	var tabs []view.Choice
	for _, p := range settingsPages {
		if v.may(p.route) {
			tabs = append(tabs, view.Choice{Href: p.href, Text: v.words.T("settings.tab-" + p.key), Selected: p.key == current})
		}
	}
	return tabs
}

// configure builds a page of the settings. form is what was posted and not taken, with
// the problem.
func (k *Console) configure(v visit, key string, form *http.Request, problem error) (built, error) {
	w := v.words
	c := view.ConfigurePage{Now: v.now, Tabs: settingsTabs(v, key), Title: w.T("settings.title"), Lead: w.T("settings.lead-" + key)}
	b := built{title: w.T("settings.tab-" + key), place: "settings"}
	if problem != nil {
		c.Said, b.status = k.problem(v, problem), http.StatusUnprocessableEntity
	} else if v.query.Get("saved") != "" {
		c.Said = &view.Message{Tone: view.OK, Cause: w.T("settings.saved")}
	} else if v.query.Get("sent") != "" {
		c.Said = &view.Message{Tone: view.OK, Cause: w.T("notify.sent")}
	}
	var err error
	switch key {
	case "appliance", "certificate":
		var s api.Setup
		if s, err = k.Appliance.Setup(v.ctx); err != nil {
			return b, err
		}
		if key == "certificate" {
			card := certificateCard(v, s.Certificate)
			c.Certificate = &card
			break
		}
		of := func(path string) *http.Request {
			if form != nil && strings.HasSuffix(form.URL.Path, path) {
				return form
			}
			return nil
		}
		general, proxy := k.general(v, s, of("/appliance")), proxyForm(w, s, of("/network"))
		for i, mode := range proxy.Modes { // here nothing waits for it
			if mode.Value == store.ProxyCustom {
				proxy.Modes[i].Note = w.T("settings.proxy-custom-tip")
			}
		}
		c.General, c.Proxy, c.Wizard = &general, &proxy, true
	case "notifications":
		c.Notify, err = k.notifyForm(v, form)
	case "backup":
		c.Backup, err = k.backupForm(v, form)
	case "about":
		c.About = []view.Fact{{Label: w.T("settings.version"), Value: k.Version}, {Label: w.T("settings.runs-on"), Value: runtime.GOOS + "/" + runtime.GOARCH},
			{Label: "Go", Value: runtime.Version()}, {Label: w.T("settings.clock"), Value: w.Time(v.now)}}
		c.Parts = k.licensedParts(w)
	}
	b.body = view.Configure(c)
	return b, err
}

func configuring(key string) func(*Console, visit) (built, error) {
	return func(k *Console, v visit) (built, error) { return k.configure(v, key, nil, nil) }
}

// saving is a form of the settings: it is applied, and the page is shown again.
func (k *Console) saving(key string, apply func(*Console, *http.Request, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := apply(k, r, userOf(r).Name)
		if err == nil {
			k.back(w, r, "/settings/"+key+"?saved=1")
			return
		}
		v := k.visitOf(r)
		b, buildErr := k.configure(v, key, r, err)
		if buildErr != nil {
			k.fail(w, r, buildErr)
			return
		}
		k.print(w, v, b)
	}
}

func (k *Console) renewCertificate(r *http.Request, actor string) error {
	return k.Appliance.RenewCertificate(r.Context(), actor)
}

// authorityFile gives the appliance's own authority to whoever is to trust it.
func (k *Console) authorityFile(w http.ResponseWriter, r *http.Request) {
	s, err := k.Appliance.Setup(r.Context())
	if err != nil {
		k.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", `attachment; filename="riparo-authority.pem"`)
	io.WriteString(w, s.Certificate.Authority)
}

func (k *Console) backupForm(v visit, form *http.Request) (*view.BackupForm, error) {
	w := v.words
	b, err := k.Appliance.Backups(v.ctx)
	if err != nil {
		return nil, err
	}
	every := time.Duration(b.Plan.EverySeconds) * time.Second
	if !b.Sealed {
		every = 24 * time.Hour
	}
	f := &view.BackupForm{Folder: b.Plan.Folder, Every: written(every), Keep: strconv.Itoa(b.Plan.Keep), Sealed: b.Sealed}
	if form != nil {
		f.Folder, f.Every, f.Keep = form.PostFormValue("folder"), form.PostFormValue("every"), form.PostFormValue("keep")
	}
	newest := view.Fact{Label: w.T("backup.newest"), Value: w.T("never"), Tone: view.Warn}
	if !b.Saved.IsZero() {
		newest = view.Fact{Label: w.T("backup.newest"), Value: w.Time(b.Saved), Note: w.Ago(b.Saved, v.now), Tone: view.OK}
	}
	if b.Problem != nil {
		newest.Tone, newest.Note = view.Bad, sentence(w.Said(b.Problem.Cause))
	}
	f.Newest = []view.Fact{newest}
	for _, kept := range b.Kept {
		row := view.BackupRow{Name: kept.Name, Size: w.Bytes(kept.Bytes), Version: kept.Version, Created: kept.Created}
		if kept.Problem != nil {
			row.Problem = sentence(w.Said(kept.Problem.Cause))
		}
		f.Rows = append(f.Rows, row)
	}
	return f, nil
}

func (k *Console) applyBackup(r *http.Request, actor string) error {
	if err := mismatch(r.PostFormValue("passphrase"), r.PostFormValue("again")); err != nil {
		return err
	}
	every, err := readDuration(r.PostFormValue("every"))
	if err != nil {
		return &replication.Problem{Code: "backup.plan", Cause: err.Error(), Effect: "nothing was changed", Action: "give it as in 24h or 7d", Remedy: replication.Stop}
	}
	keep, _ := strconv.Atoi(r.PostFormValue("keep")) // 0 is refused below
	return k.Appliance.SaveBackupPlan(r.Context(), actor, api.BackupPlan{Folder: r.PostFormValue("folder"), EverySeconds: int64(every.Seconds()), Keep: keep, Passphrase: r.PostFormValue("passphrase")})
}

// backUpNow starts a backup and goes to its job.
func (k *Console) backUpNow(w http.ResponseWriter, r *http.Request) {
	job, err := k.Appliance.BackUp(r.Context(), userOf(r).Name)
	k.onward(w, r, "/jobs/"+pathSegment(job), err)
}

func (k *Console) backupFile(w http.ResponseWriter, r *http.Request) {
	f, err := k.Appliance.OpenBackup(r.PathValue("name"))
	if err != nil {
		k.fail(w, r, err)
		return
	}
	defer f.Close()
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Hour)) // not supported by every writer in tests
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+r.PathValue("name")+`"`)
	if _, err := io.Copy(w, f); err != nil {
		k.Logger.Warn("a backup was not sent as a whole", "name", r.PathValue("name"), "error", err)
	}
}

// Bounds of the page of alerts: those that stand, the worst first, and those of the past.
const (
	maxActive = 80
	maxPast   = 100
)

func (k *Console) alerts(v visit) (built, error) {
	w := v.words
	a := view.Alerts{Now: v.now}
	err := k.Store.View(func(tx *store.Tx) error {
		active, err := tx.ActiveAlerts().Page("", store.MaxPage, true)
		if err != nil {
			return err
		}
		all, err := tx.ActiveAlerts().Count()
		if err != nil {
			return err
		}
		slices.SortStableFunc(active, func(x, y store.Alert) int {
			return cmp.Compare(weight(toneOf(x.Severity)), weight(toneOf(y.Severity)))
		})
		for _, one := range active[:min(len(active), maxActive)] {
			a.Active = append(a.Active, alertItem(w, one))
		}
		if more := all - len(a.Active); more > 0 {
			a.Active = append(a.Active, view.AlertItem{Tone: view.Info, Title: w.N("overview.more", more), Href: "/machines?health=attention"})
		}
		past, err := tx.Alerts().Page("", maxPast+len(active), true)
		for _, one := range past {
			if !one.Ended.IsZero() && len(a.Past) < maxPast {
				a.Past = append(a.Past, alertItem(w, one))
			}
		}
		return err
	})
	return built{title: w.T("alerts.title"), place: "alerts", body: view.AlertsPage(a), live: true, on: []string{"alert/"},
		parts: []part{{"alerts-active", view.AlertsActive(a)}, {"alerts-past", view.AlertsPast(a)}}}, err
}

func alertItem(w *view.Words, a store.Alert) view.AlertItem {
	what := store.AlertRaised
	if !a.Ended.IsZero() {
		what = store.AlertEnded
	}
	i := view.NewAlertItem(w, what, a.Kind, a.Severity, a.Name, a.Args, a.Cause, a.Effect, a.Action, a.Since, a.Ended)
	i.Cause, i.Effect, i.Action = sentence(i.Cause), sentence(i.Effect), sentence(i.Action)
	switch {
	case strings.HasPrefix(a.Kind, "job."):
		i.Href = "/jobs/" + pathSegment(a.Subject)
	case a.Machine != "":
		i.Href = "/machines/" + pathSegment(a.Machine)
	case strings.HasPrefix(a.Kind, "site."), strings.HasPrefix(a.Kind, "vault."):
		i.Href = "/infrastructure"
	case strings.HasPrefix(a.Kind, "backup."):
		i.Href = "/settings/backup"
	case strings.HasPrefix(a.Kind, "certificate."):
		i.Href = "/settings/certificate"
	case strings.HasPrefix(a.Kind, "message."):
		i.Href = "/settings/notifications"
	}
	return i
}
