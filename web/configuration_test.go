package web_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web"
	"riparo/web/api"
)

func setupOf(st *store.Store) (s api.Setup, err error) {
	s = api.Setup{Proxy: store.Proxy{Mode: store.ProxySystem}, Checks: []string{"data", "vault", "clock", "sites", "backup"},
		Certificate: api.Certificate{Own: true, Subject: "CN=Riparo cs01,O=Riparo", Names: []string{"localhost", "cs01"}, Ends: time.Date(2028, 5, 1, 0, 0, 0, 0, time.UTC),
			Fingerprint: strings.TrimSuffix(strings.Repeat("AB:", 32), ":"), Authority: "-----BEGIN CERTIFICATE-----\n"}, Vault: api.VaultPlace{Folder: "/srv/vault"}}
	err = st.View(func(tx *store.Tx) error {
		for name, into := range map[string]any{store.SettingSetup: &s.Progress, store.SettingGeneral: &s.General, store.SettingProxy: &s.Proxy} {
			if _, err := tx.Setting(name, into); err != nil {
				return err
			}
		}
		return nil
	})
	return s, err
}

func (a *appliance) Setup(context.Context) (api.Setup, error) { return setupOf(a.store) }

func (a *appliance) set(name string, value any) error {
	return a.store.Update(func(tx *store.Tx) error { return tx.SetSetting(name, value) })
}

func (a *appliance) progress(change func(p *store.SetupProgress)) error {
	s, err := setupOf(a.store)
	if err != nil {
		return err
	}
	change(&s.Progress)
	return a.set(store.SettingSetup, s.Progress)
}

func (a *appliance) SaveGeneral(_ context.Context, _ string, g store.General) error {
	if g.Name == "" {
		return &replication.Problem{Code: "setting.invalid", Cause: "the appliance needs a name of 1 to 63 characters", Action: "give it one", Remedy: replication.Stop}
	}
	return a.set(store.SettingGeneral, g)
}

func (a *appliance) SaveProxy(_ context.Context, _ string, p store.Proxy) error {
	return a.set(store.SettingProxy, p)
}

func (a *appliance) InstallCertificate(_ context.Context, _ string, c api.NewCertificate) error {
	return &replication.Problem{Code: "certificate.refused", Cause: "the key is not the one of this certificate", Action: "give its key", Remedy: replication.Stop}
}
func (a *appliance) RenewCertificate(context.Context, string) error { return nil }

func (a *appliance) ProbeFolder(_ context.Context, folder string) (api.Probe, error) {
	if folder == "nowhere" {
		return api.Probe{}, &replication.Problem{Code: "probe.folder", Cause: "the folder nowhere cannot be written", Action: "choose another", Remedy: replication.Stop}
	}
	p := store.Probed{Folder: folder, WriteSpeed: 412e6, Sync: 1800 * time.Microsecond, Free: 610 << 30, Total: 900 << 30, Time: a.now()}
	return api.Probe{Folder: folder, WriteSpeed: p.WriteSpeed, Sync: p.Sync, FreeBytes: p.Free}, a.progress(func(s *store.SetupProgress) { s.Probe = &p })
}
func (a *appliance) MoveVault(context.Context, string, string) error { return nil }

const print1 = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"

// What a host over TLS shows, one day and the other.
var tls1, tls2 = strings.TrimSuffix(strings.Repeat("A1:", 32), ":"), strings.TrimSuffix(strings.Repeat("B2:", 32), ":")

// tlsShown changes what hosts over TLS show; sites that were confirmed otherwise are away.
func (a *appliance) tlsShown(print string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shown = print
	for i, s := range a.sites {
		if print := s.Site.Fingerprint; print != "" {
			a.sites[i].Problem = nil
			if print != a.shown {
				a.sites[i].Problem = &replication.Problem{Code: "peer.changed", Cause: "the host shows another certificate", Remedy: replication.Stop}
			}
		}
	}
}

func (a *appliance) Peer(_ context.Context, s store.Site) (*api.Peer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case strings.HasPrefix(s.Address, "qemu+tls"):
		shown := cmp.Or(a.shown, tls1)
		return &api.Peer{Host: "kvm2:16514", Kind: "x509", Fingerprint: shown, Known: s.Fingerprint == shown, Changed: s.Fingerprint != "" && s.Fingerprint != shown,
			Subject: "CN=kvm2", Issuer: "CN=a data center", Begins: a.now(), Ends: a.now().Add(time.Hour), Doubt: "authority"}, nil
	case !strings.HasPrefix(s.Address, "qemu+ssh"):
		return nil, nil
	}
	return &api.Peer{Host: "kvm1:22", Kind: "ssh-ed25519", Fingerprint: print1, Known: slices.Contains(a.told, "trust "+print1)}, nil
}

func (a *appliance) SitePeer(ctx context.Context, name string) (*api.Peer, error) {
	var s store.Site
	if err := a.store.View(func(tx *store.Tx) (err error) { s, err = tx.Sites().Get(name); return err }); err != nil {
		return nil, err
	}
	return a.Peer(ctx, s)
}

func (a *appliance) TrustSite(ctx context.Context, _, name, fingerprint string) error {
	p, err := a.SitePeer(ctx, name)
	if err != nil {
		return err
	}
	if p == nil || p.Fingerprint != fingerprint {
		return &replication.Problem{Code: "peer.changed", Cause: "the host shows another fingerprint now", Action: "compare it again", Remedy: replication.Stop}
	}
	return a.store.Update(func(tx *store.Tx) error {
		s, err := tx.Sites().Get(name)
		if err != nil {
			return err
		}
		s.Fingerprint = fingerprint
		return tx.Sites().Put(s)
	})
}

func (a *appliance) TrustPeer(_ context.Context, _ string, _ store.Site, fingerprint string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, "trust "+fingerprint)
	return nil
}

func (a *appliance) Check(_ context.Context, id string) (store.Checked, error) {
	c := store.Checked{ID: id, Outcome: store.CheckGood, Args: map[string]string{}, Time: a.now(), Took: 12 * time.Millisecond}
	switch id {
	case "vault":
		c.Args = map[string]string{"write_rate": "412000000", "sync_seconds": "0.0018", "free_bytes": "654000000000"}
	case "backup":
		c.Outcome, c.Cause, c.Action = store.CheckWarn, "the appliance does not back up its own state", "choose a folder, a passphrase and how often under Settings, Backup"
	case "sites":
		c.Outcome, c.Cause, c.Action = store.CheckBad, "site Roma: it does not answer", "check the address"
	case "clock", "data", "proxy":
	default:
		return c, fmt.Errorf("check %s: %w", id, store.ErrNotFound)
	}
	return c, a.progress(func(s *store.SetupProgress) {
		if s.Checks == nil {
			s.Checks = map[string]store.Checked{}
		}
		s.Checks[id] = c
	})
}

func (a *appliance) StepDone(_ context.Context, _, step string) error {
	return a.progress(func(s *store.SetupProgress) {
		if s.Done == nil {
			s.Done = map[string]time.Time{}
		}
		s.Done[step] = a.now()
		if step == "finish" {
			s.Finished = a.now()
		}
	})
}

// answers are what a person gives to each step of the setup.
var answers = map[string][]string{
	"appliance": {"name", "Milano 1", "zone", "Europe/Rome"},
	"network":   {"mode", "custom", "url", "http://proxy:3128"},
	"vault":     {"folder", "/srv/vault"},
	"site":      {"name", "Milano", "kind", "kvm-qmp", "address", "/run/milano"},
	"target":    {"name", "Roma", "kind", "kvm-qmp", "address", "/run/roma"},
	"policy":    {"name", "default", "copy_frequency", "1m", "app_frequency", "1h", "rpo_threshold", "15m", "freeze_limit", "10s", "retention", "1h:all"},
}

// TestTheSetupGoesOnWhereverItWasLeft claims an appliance with forms alone, as a text
// browser does, leaves it after every step with another browser, and finds it there.
func TestTheSetupGoesOnWhereverItWasLeft(t *testing.T) {
	h := newHouse(t, false)
	b := h.browser()
	got := b.post("/setup", "token", h.token, "name", user, "password", password, "again", password, "language", "en")
	if got.status != http.StatusSeeOther || got.header.Get("Location") != "/setup/appliance" {
		t.Fatalf("the claim leads to %q (%d), want the first step", got.header.Get("Location"), got.status)
	}
	steps := api.SetupSteps
	if wizard := web.WizardSteps(); !slices.Equal(wizard, steps) {
		t.Fatalf("the wizard has the steps %v, the API %v", wizard, steps)
	}
	for i, step := range steps {
		b = h.signedIn("") // the browser was closed
		if at := b.get("/setup").header.Get("Location"); at != "/setup/"+step {
			t.Fatalf("taken up at %q, want /setup/%s", at, step)
		}
		page := b.get("/setup/" + step)
		if page.status != http.StatusOK || !strings.Contains(page.body, `aria-current="step"`) || !strings.Contains(page.body, `action="/setup/`+step+`"`) {
			t.Fatalf("step %s: %d\n%s", step, page.status, page.body)
		}
		next := "/"
		if i+1 < len(steps) {
			next = "/setup/" + steps[i+1]
		}
		if got := b.post("/setup/"+step, append([]string{"do", "next"}, answers[step]...)...); got.status != http.StatusSeeOther || got.header.Get("Location") != next {
			t.Fatalf("step %s leads to %q (%d), want %s\n%s", step, got.header.Get("Location"), got.status, next, got.body)
		}
	}
	if at := b.get("/setup").header.Get("Location"); at != "/" {
		t.Errorf("after the end /setup leads to %q, want the overview", at)
	}
	rail := b.get("/setup/checks")
	for _, fact := range []string{"Milano 1", "This proxy", "/srv/vault", "Milano", "Roma", "every 1 min"} {
		if !strings.Contains(rail.body, fact) {
			t.Errorf("the rail lacks %q", fact)
		}
	}
	s, err := setupOf(h.store)
	if err != nil || s.General.Name != "Milano 1" || s.Progress.Finished.IsZero() {
		t.Errorf("kept %+v, %v", s, err)
	}
}

// TestTheSetupKeepsWhatItsPolicyFormDoesNotShow, a lock above all: who goes through the
// setup again and changes nothing has changed nothing.
func TestTheSetupKeepsWhatItsPolicyFormDoesNotShow(t *testing.T) {
	h := newHouse(t, false).claimed()
	b := h.signedIn("")
	p := replication.DefaultPolicy()
	p.LockFor, p.BytesPerSecond, p.FreezeLimit = 30*24*time.Hour, 5<<20, 7*time.Second
	if err := h.appliance.SavePolicy(t.Context(), api.Who{}, p); err != nil {
		t.Fatal(err)
	}
	form := []string{"do", "next"}
	for _, field := range regexp.MustCompile(`<input[^>]* name="([^"]+)"[^>]* value="([^"]*)"`).FindAllStringSubmatch(b.get("/setup/policy").body, -1) {
		form = append(form, field[1], field[2])
	}
	at := slices.Index(form, "lock_for")
	for how, form := range map[string][]string{"as it was shown": form, "without a word about the lock": slices.Delete(slices.Clone(form), at, at+2)} {
		if got := b.post("/setup/policy", form...); got.status != http.StatusSeeOther {
			t.Fatalf("posted %s: %d\n%s", how, got.status, got.body)
		}
		var now store.Policy
		if err := h.store.View(func(tx *store.Tx) (err error) { now, err = tx.Policies().Get(p.Name); return err }); err != nil || !reflect.DeepEqual(now.Policy, p) {
			t.Errorf("posted %s it is %+v (%v), want %+v", how, now.Policy, err, p)
		}
	}
}

func TestTheSetupSaysWhatIsWrongAndKeepsWhatWasTyped(t *testing.T) {
	h := newHouse(t, false).claimed()
	b := h.signedIn("")
	for _, row := range []struct {
		step, want string
		form       []string
	}{
		{"appliance", "needs a name", []string{"name", "", "zone", "Europe/Rome"}},
		{"certificate", "not the one of this certificate", []string{"certificate", "x", "key", "y"}},
		{"vault", "cannot be written", []string{"folder", "nowhere"}},
		{"site", "does not exist", []string{"name", "Milano", "kind", "kvm-qmp", "address", "nowhere"}},
		{"site", "SHA256:47DEQ", []string{"name", "Milano", "kind", "kvm-libvirt", "address", "qemu+ssh://kvm1/system"}},
		{"policy", "is not a duration", []string{"name", "default", "copy_frequency", "often"}},
	} {
		got := b.post("/setup/"+row.step, append([]string{"do", "next"}, row.form...)...)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, row.want) {
			t.Errorf("%s: got %d, want %q in\n%s", row.step, got.status, row.want, got.body)
		}
		if s, err := setupOf(h.store); err != nil || !s.Progress.Done[row.step].IsZero() {
			t.Errorf("%s counts as done", row.step)
		}
	}
	// The host is confirmed, and then the site is added.
	got := b.post("/setup/site", "do", "next", "name", "Milano", "kind", "kvm-libvirt", "address", "qemu+ssh://kvm1/system", "trust", "yes", "fingerprint", print1)
	if got.status != http.StatusSeeOther {
		t.Fatalf("a confirmed host: %d\n%s", got.status, got.body)
	}
	if got := b.post("/setup/target", "do", "skip"); got.header.Get("Location") != "/setup/policy" {
		t.Errorf("skipped to %q", got.header.Get("Location"))
	}
	if got := b.post("/setup/appliance", "do", "later", "name", "Milano 1"); got.header.Get("Location") != "/" {
		t.Errorf("saved and left to %q", got.header.Get("Location"))
	}
	if got := b.post("/setup/checks/sites", "return", "/setup/checks"); got.header.Get("Location") != "/setup/checks" {
		t.Errorf("a check leads to %q", got.header.Get("Location"))
	}
	if page := b.get("/setup/checks"); !strings.Contains(page.body, "Site Roma: it does not answer") || !strings.Contains(page.body, "Not run yet") {
		t.Errorf("the checks are shown as\n%s", page.body)
	}
}

// TestWhoAnswersIsConfirmedUnderInfrastructure: a site is added only after its host was
// confirmed, and one whose host has changed is confirmed again.
func TestWhoAnswersIsConfirmedUnderInfrastructure(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	form := []string{"name", "Torino", "kind", "kvm-libvirt", "address", "qemu+tls://kvm2/system"}
	got := b.post("/infrastructure", form...)
	for _, want := range []string{tls1, "CN=kvm2", "CN=a data center", "No authority that this computer knows", `name="trust"`} {
		if got.status != http.StatusConflict || !strings.Contains(got.body, want) {
			t.Errorf("a host that nobody confirmed: %d, want %q in\n%s", got.status, want, got.body)
		}
	}
	if got := b.post("/infrastructure", append(form, "fingerprint", tls1)...); got.status != http.StatusConflict {
		t.Errorf("without the tick: %d", got.status)
	}
	if got := b.post("/infrastructure", append(form, "fingerprint", tls1, "trust", "yes")...); got.status != http.StatusSeeOther {
		t.Fatalf("confirmed: %d\n%s", got.status, got.body)
	}
	pinned := func() string {
		var s store.Site
		if err := h.store.View(func(tx *store.Tx) (err error) { s, err = tx.Sites().Get("Torino"); return err }); err != nil {
			t.Fatal(err)
		}
		return s.Fingerprint
	}
	if pinned() != tls1 {
		t.Errorf("kept %q with the site, want %s", pinned(), tls1)
	}
	const trust = "/infrastructure/Torino/trust"
	if page := b.get("/infrastructure"); strings.Contains(page.body, trust) || !strings.Contains(page.body, tls1) {
		t.Error("a site whose host is as confirmed asks to confirm it, or does not show what was")
	}
	// The host shows another certificate.
	h.appliance.tlsShown(tls2)
	if page := b.get("/infrastructure"); !strings.Contains(page.body, trust) {
		t.Error("a site whose host has changed does not offer to confirm it")
	}
	if page := b.get(trust); !strings.Contains(page.body, tls2) || !strings.Contains(page.body, "not who was confirmed before") {
		t.Errorf("asked with\n%s", page.body)
	}
	for name, form := range map[string][]string{"without the tick": {"fingerprint", tls2}, "what it showed before": {"fingerprint", tls1, "trust", "yes"}} {
		if got := b.post(trust, form...); got.status != http.StatusConflict || pinned() != tls1 {
			t.Errorf("%s: %d, pinned %s", name, got.status, pinned())
		}
	}
	if got := b.post(trust, "fingerprint", tls2, "trust", "yes"); got.status != http.StatusSeeOther || pinned() != tls2 {
		t.Errorf("confirmed again: %d, pinned %s", got.status, pinned())
	}
	c, ctx := h.client(store.Administrator), t.Context()
	if p, err := c.SitePeer(ctx, "Torino"); err != nil || p.Fingerprint != tls2 || !p.Known || p.Subject != "CN=kvm2" {
		t.Errorf("the API tells %+v, %v", p, err)
	}
	h.appliance.tlsShown(tls1)
	if p := problemOf(t, c.TrustSite(ctx, "Torino", tls2)); p.Code != "peer.changed" {
		t.Errorf("a fingerprint that is not shown any more: %+v", p)
	}
	if err := c.TrustSite(ctx, "Torino", tls1); err != nil || pinned() != tls1 {
		t.Errorf("confirmed by a program: %v, pinned %s", err, pinned())
	}
	if p := problemOf(t, c.AddSite(ctx, api.SiteBody{Name: "Bari", Kind: "kvm-libvirt", Address: "qemu+tls://kvm3/system"})); p.Code != "peer.unknown" {
		t.Errorf("added by a program without a fingerprint: %+v", p)
	}
	if err := c.AddSite(ctx, api.SiteBody{Name: "Bari", Kind: "kvm-libvirt", Address: "qemu+tls://kvm3/system", Fingerprint: tls1}); err != nil {
		t.Errorf("added by a program: %v", err)
	}
	b.post("/preferences", "language", "it", "next", "/")
	if got := b.get(trust); !strings.Contains(got.body, "Conferma chi risponde") {
		t.Errorf("in Italian:\n%s", got.body)
	}
}

// TestTheProxyIsToldOfWhereItIsSet: the setup waits for it, the settings do not.
func TestTheProxyIsToldOfWhereItIsSet(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	const waits = "before the step is done"
	if page := b.get("/setup/network"); !strings.Contains(page.body, waits) {
		t.Error("the setup does not say that it waits for the proxy")
	}
	if page := b.get("/settings/appliance"); strings.Contains(page.body, waits) || !strings.Contains(page.body, "It is saved, and contacted at once") {
		t.Error("the settings speak of a step")
	}
}

func TestNotificationsAreSavedAndTested(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	form := []string{"kind", "site.away", "site_away", "5m", "no_progress", "1h", "vault_warn", "70", "vault_bad", "80", "gather", "30s", "repeat", "12h",
		"host", "mail.example", "security", "tls", "from", "riparo@example.com", "user", "riparo", "password", "the mail password",
		"address-1", "anna@example.com", "severity-1", "warning", "language-1", "it", "ended-1", "yes", "address-2", "", "url-1", "https://hook.example/x", "secret-1", "shared", "hook-severity-1", "critical"}
	if got := b.post("/settings/notifications", form...); got.status != http.StatusSeeOther {
		t.Fatalf("got %d\n%s", got.status, got.body)
	}
	n := h.appliance.notify
	if len(n.Mail.Recipients) != 1 || !n.Mail.Recipients[0].Ended || n.Mail.Recipients[0].Language != "it" || len(n.Hooks) != 1 || n.Hooks[0].Secret != "shared" || n.Rules.SiteAwaySeconds != 300 || len(n.Rules.Off) != 10 || slices.Contains(n.Rules.Off, "site.away") {
		t.Errorf("saved %+v", n)
	}
	page := b.get("/settings/notifications?saved=1")
	for _, secret := range []string{"the mail password", ">shared<", `"shared"`} {
		if strings.Contains(page.body, secret) {
			t.Errorf("the page shows %q", secret)
		}
	}
	if got := b.post("/settings/notifications/test", "recipient", "mail:anna@example.com"); got.status != http.StatusSeeOther || !slices.Contains(h.appliance.told, "mail:anna@example.com") {
		t.Errorf("a test: %d, told %v", got.status, h.appliance.told)
	}
	if got := b.post("/settings/notifications/test", "recipient", "mail:nobody@example.com"); !strings.Contains(got.body, "no such mailbox") {
		t.Errorf("a test that does not arrive: %d", got.status)
	}
	form[3] = "soon"
	if got := b.post("/settings/notifications", form...); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "anna@example.com") {
		t.Errorf("a time that is none: %d", got.status)
	}
}

// settle makes a house look as one whose setup is under way.
func (h *house) settle() {
	h.Helper()
	for _, step := range []string{"appliance", "network", "certificate", "roles"} {
		if err := h.appliance.StepDone(h.Context(), user, step); err != nil {
			h.Fatal(err)
		}
	}
	for _, id := range []string{"data", "vault", "clock", "backup", "sites"} {
		if _, err := h.appliance.Check(h.Context(), id); err != nil {
			h.Fatal(err)
		}
	}
	h.appliance.ProbeFolder(h.Context(), "/srv/vault")
	h.appliance.set(store.SettingGeneral, store.General{Name: "Milano 1", Zone: "Europe/Rome", TimeServer: "ntp.inrim.it"})
	h.appliance.SaveBackupPlan(h.Context(), user, api.BackupPlan{Folder: "/mnt/share/riparo", EverySeconds: 86400, Keep: 30})
	h.appliance.Notifications(h.Context())
	h.appliance.notify.Mail = api.Mail{Host: "mail.example.com", Security: "starttls", From: "riparo@example.com", User: "riparo", Password: "x", Recipients: []api.MailRecipient{
		{Address: "anna.bianchi@example.com", Severity: "warning", Language: "it", Ended: true}, {Address: "oncall@example.com", Severity: "critical", Language: "en"}}}
	h.appliance.notify.Hooks = []api.Hook{{ID: "h1", URL: "https://chat.example.com/hooks/riparo", Secret: "s", Severity: "info", Ended: true}}
	now := time.Now()
	err := h.store.Update(func(tx *store.Tx) error {
		for _, a := range []store.Alert{
			{ID: "1", Kind: "rpo.breached", Subject: "m-5b10c3d2", Machine: "m-5b10c3d2", Name: "sql-prod-01", Severity: "warning", Args: map[string]string{"limit_seconds": "60", "point_time": now.Add(-14 * time.Minute).UTC().Format(time.RFC3339)}, Since: now.Add(-13 * time.Minute)},
			{ID: "2", Kind: "site.away", Subject: "Roma", Name: "Roma", Severity: "critical", Args: map[string]string{"since_time": now.Add(-4 * time.Minute).UTC().Format(time.RFC3339)}, Cause: "dr1.roma.example does not answer", Action: "check the address", Since: now.Add(-2 * time.Minute)},
			{ID: "0", Kind: "backup.failed", Severity: "warning", Args: map[string]string{"last_time": now.Add(-50 * time.Hour).UTC().Format(time.RFC3339)}, Since: now.Add(-26 * time.Hour), Ended: now.Add(-25 * time.Hour)},
		} {
			if err := tx.Alerts().Put(a); err != nil {
				return err
			}
		}
		return tx.Deliveries().Put(store.Delivery{ID: "d1", Channel: "mail:oncall@example.com", Items: []store.Item{{}}, Created: now.Add(-time.Minute), Attempts: 1, Problem: &store.Finding{Cause: "the mail server mail.example.com did not take the message: 450 try again later"}})
	})
	if err != nil {
		h.Fatal(err)
	}
}
