package web

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// wizardStep is a step of the setup: what it shows, and what its form does. What a form
// does is done and kept before the next step is shown, so that the setup goes on
// wherever it was left.
type wizardStep struct {
	name  string
	body  func(k *Console, v visit, s api.Setup, form *http.Request) (templ.Component, error)
	apply func(k *Console, r *http.Request, actor string) error
	fact  func(w *view.Words, s api.Setup, r records) string
}

// wizardSteps are all of them, in their order.
func wizardSteps() []wizardStep {
	return []wizardStep{
		{"appliance", (*Console).applianceBody, (*Console).applyGeneral, func(_ *view.Words, s api.Setup, _ records) string { return s.General.Name }},
		{"network", (*Console).networkBody, (*Console).applyProxy, func(w *view.Words, s api.Setup, _ records) string { return w.T("setup.proxy-" + s.Proxy.Mode) }},
		{"certificate", (*Console).certificateBody, (*Console).applyCertificate, func(w *view.Words, s api.Setup, _ records) string {
			if s.Certificate.Own {
				return w.T("certificate.own")
			}
			return s.Certificate.Subject
		}},
		{"roles", (*Console).rolesBody, nothingToApply, func(w *view.Words, _ api.Setup, _ records) string { return w.T("setup.roles-fact") }},
		{"vault", (*Console).vaultBody, (*Console).applyVault, func(_ *view.Words, s api.Setup, _ records) string { return s.Vault.Folder }},
		{"site", (*Console).siteBody, (*Console).applySite, func(_ *view.Words, s api.Setup, r records) string { return siteNamed(r, s.Progress.Site, 0) }},
		{"target", (*Console).siteBody, (*Console).applySite, func(_ *view.Words, s api.Setup, r records) string { return siteNamed(r, s.Progress.Target, 1) }},
		{"policy", (*Console).policyBody, (*Console).applyPolicy, func(w *view.Words, _ api.Setup, r records) string {
			return w.T("setup.policy-fact", "Every", w.Duration(r.policies["default"].CopyFrequency))
		}},
		{"checks", (*Console).checksBody, nothingToApply, func(w *view.Words, s api.Setup, _ records) string {
			good := 0
			for _, c := range s.Progress.Checks {
				if c.Outcome == store.CheckGood {
					good++
				}
			}
			return w.T("setup.checks-fact", "Good", good, "All", len(s.Checks))
		}},
		{"finish", (*Console).finishBody, nothingToApply, func(w *view.Words, s api.Setup, _ records) string { return w.Short(s.Progress.Finished, time.Now()) }},
	}
}

func nothingToApply(*Console, *http.Request, string) error { return nil }

// siteNamed is a site as the rail tells it: the one added on the way, or the one at its
// place in the list.
func siteNamed(r records, name string, place int) string {
	if _, there := r.sites[name]; there {
		return name
	}
	names := slices.Sorted(keysOf(r.sites))
	if place < len(names) {
		return names[place]
	}
	return ""
}

func stepNamed(name string) int {
	return slices.IndexFunc(wizardSteps(), func(s wizardStep) bool { return s.name == name })
}

// firstOpen is the step to go on at.
func firstOpen(s api.Setup) string {
	for _, step := range wizardSteps() {
		if s.Progress.Done[step.name].IsZero() {
			return step.name
		}
	}
	return "finish"
}

// wizard shows a step.
func (k *Console) wizard(w http.ResponseWriter, r *http.Request) {
	k.wizardStep(w, r, r.PathValue("step"), nil)
}

func (k *Console) wizardStep(w http.ResponseWriter, r *http.Request, name string, problem error) {
	v := k.visitOf(r)
	i := stepNamed(name)
	if i < 0 {
		k.refuse(w, r, http.StatusNotFound, &replication.Problem{Code: "page.unknown", Cause: "there is nothing here (any more)", Action: "go back to the overview"})
		return
	}
	s, err := k.Appliance.Setup(r.Context())
	if err != nil {
		k.fail(w, r, err)
		return
	}
	rec, err := k.records()
	if err != nil {
		k.fail(w, r, err)
		return
	}
	t := v.words
	z := view.Wizard{Now: v.now, Step: name, Number: strconv.Itoa(i + 1), Title: t.T("setup.step-" + name), Lead: t.T("setup.step-" + name + "-lead"), Submit: t.T("setup.next")}
	for n, step := range wizardSteps() {
		row := view.WizardStep{Number: strconv.Itoa(n + 1), Title: t.T("setup.step-" + step.name), Href: "/setup/" + step.name, State: "ahead"}
		done := !s.Progress.Done[step.name].IsZero()
		if done {
			row.State, row.Fact = "done", step.fact(t, s, rec)
		}
		if step.name == name {
			row.State = strings.TrimSpace("current " + strings.Replace(row.State, "ahead", "", 1))
		}
		z.Steps = append(z.Steps, row)
	}
	if i > 0 {
		z.Back = "/setup/" + wizardSteps()[i-1].name
	}
	switch name {
	case "vault":
		z.Actions = []view.Choice{{Value: "stay", Text: t.T("setup.measure")}}
	case "site", "target":
		z.Actions = []view.Choice{{Value: "skip", Text: t.T("setup.skip")}}
	case "checks":
		z.Actions = []view.Choice{{Value: "all", Text: t.T("setup.check-all")}}
	case "finish":
		z.Submit = t.T("setup.finish")
	}
	form := r
	if r.Method == http.MethodGet {
		form = nil
	}
	if z.Body, err = wizardSteps()[i].body(k, v, s, form); err != nil {
		k.fail(w, r, err)
		return
	}
	b := built{title: z.Title, place: "settings"}
	if problem != nil {
		m := messageOf(t, replication.AsProblem(problem))
		z.Problem, b.status = &m, http.StatusUnprocessableEntity
	}
	b.body = view.WizardPage(z)
	k.print(w, v, b)
}

// wizardPost does what a step's form asks for.
func (k *Console) wizardPost(w http.ResponseWriter, r *http.Request) {
	name, do := r.PathValue("step"), r.PostFormValue("do")
	i := stepNamed(name)
	if i < 0 || do == "" {
		k.wizardStep(w, r, name, nil)
		return
	}
	actor := userOf(r).Name
	if do == "all" {
		k.checkAll(r)
		k.back(w, r, "/setup/"+name)
		return
	}
	if do == "later" && (name == "site" || name == "target") && strings.TrimSpace(r.PostFormValue("name")) == "" {
		k.back(w, r, "/") // an empty form is not judged by who leaves; the step stays open
		return
	}
	if do != "skip" {
		if err := wizardSteps()[i].apply(k, r, actor); err != nil {
			k.wizardStep(w, r, name, err)
			return
		}
	}
	if do == "stay" {
		k.back(w, r, "/setup/"+name)
		return
	}
	next := "/"
	if do != "later" || name != "finish" {
		if err := k.Appliance.StepDone(r.Context(), actor, name); err != nil {
			k.fail(w, r, err)
			return
		}
	}
	if do != "later" && i+1 < len(wizardSteps()) {
		next = "/setup/" + wizardSteps()[i+1].name
	}
	k.back(w, r, next)
}

func (k *Console) applianceBody(v visit, s api.Setup, form *http.Request) (templ.Component, error) {
	return view.GeneralFields(k.general(v, s, form), v.now), nil
}

func (k *Console) general(v visit, s api.Setup, form *http.Request) view.General {
	g := view.General{Name: s.General.Name, Zone: s.General.Zone, TimeServer: s.General.TimeServer, Zones: zones}
	if g.Name == "" {
		g.Zone = cmp.Or(g.Zone, v.zone)
	}
	if form != nil {
		g.Name, g.Zone, g.TimeServer = form.PostFormValue("name"), form.PostFormValue("zone"), form.PostFormValue("time_server")
	}
	g.Clock = []view.Fact{{Label: v.words.T("settings.clock"), Value: v.words.Time(v.now)}}
	if c, known := s.Progress.Checks["clock"]; known {
		g.Clock = append(g.Clock, view.Fact{Label: v.words.T("setup.skew"), Value: checkText(v.words, c), Note: v.words.Ago(c.Time, v.now), Tone: checkTone(c)})
	}
	return g
}

// zones are offered; any of the time zone database is taken.
var zones = []string{"Europe/Rome", "Europe/London", "Europe/Berlin", "Europe/Paris", "Europe/Madrid", "Europe/Zurich", "UTC", "America/New_York", "America/Chicago", "America/Los_Angeles", "America/Sao_Paulo", "Asia/Dubai", "Asia/Kolkata", "Asia/Singapore", "Asia/Tokyo", "Australia/Sydney"}

func (k *Console) applyGeneral(r *http.Request, actor string) error {
	g := store.General{Name: r.PostFormValue("name"), Zone: r.PostFormValue("zone"), TimeServer: r.PostFormValue("time_server")}
	if err := k.Appliance.SaveGeneral(r.Context(), actor, g); err != nil {
		return err
	}
	_, err := k.Appliance.Check(r.Context(), "clock")
	return err
}

func (k *Console) networkBody(v visit, s api.Setup, form *http.Request) (templ.Component, error) {
	return view.ProxyFields(proxyForm(v.words, s, form)), nil
}

func proxyForm(w *view.Words, s api.Setup, form *http.Request) view.Proxy {
	p := s.Proxy
	if form != nil {
		p = store.Proxy{Mode: form.PostFormValue("mode"), URL: form.PostFormValue("url"), Bypass: form.PostFormValue("bypass")}
	}
	out := view.Proxy{URL: p.URL, Bypass: p.Bypass}
	for _, mode := range []string{store.ProxySystem, store.ProxyNone, store.ProxyCustom} {
		out.Modes = append(out.Modes, view.Choice{Value: mode, Text: w.T("setup.proxy-" + mode), Note: w.T("setup.proxy-" + mode + "-tip"), Selected: mode == p.Mode})
	}
	return out
}

func (k *Console) applyProxy(r *http.Request, actor string) error {
	p := store.Proxy{Mode: r.PostFormValue("mode"), URL: r.PostFormValue("url"), Bypass: r.PostFormValue("bypass")}
	if err := k.Appliance.SaveProxy(r.Context(), actor, p); err != nil {
		return err
	}
	c, err := k.Appliance.Check(r.Context(), "proxy")
	if err == nil && c.Outcome == store.CheckBad {
		err = &replication.Problem{Code: "proxy.silent", Cause: c.Cause, Effect: "the proxy is saved all the same", Action: c.Action, Remedy: replication.Retry}
	}
	return err
}

func (k *Console) certificateBody(v visit, s api.Setup, _ *http.Request) (templ.Component, error) {
	return view.CertificateFields(certificateCard(v, s.Certificate)), nil
}

func certificateCard(v visit, c api.Certificate) view.CertificateCard {
	w := v.words
	kind := w.T("certificate.own")
	if !c.Own {
		kind = w.T("certificate.brought")
	}
	return view.CertificateCard{Now: v.now, Own: c.Own, Facts: []view.Fact{{Label: w.T("certificate.kind"), Value: kind, Note: c.Subject}, {Label: w.T("certificate.ends"), Value: w.Time(c.Ends)},
		{Label: w.T("certificate.names"), Value: strings.Join(c.Names, ", ")}, {Label: w.T("certificate.fingerprint"), Value: c.Fingerprint, Across: true, Bytes: true}}}
}

func (k *Console) applyCertificate(r *http.Request, actor string) error {
	certificate, key := strings.TrimSpace(r.PostFormValue("certificate")), strings.TrimSpace(r.PostFormValue("key"))
	if certificate == "" && key == "" {
		return nil // as it is
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return k.Appliance.InstallCertificate(r.Context(), actor, api.NewCertificate{Certificate: certificate, Key: key, Name: host})
}

func (k *Console) rolesBody(v visit, _ api.Setup, _ *http.Request) (templ.Component, error) {
	w := v.words
	return view.RolesBody([]view.Fact{{Label: w.T("setup.role-configuration"), Value: w.T("setup.role-configuration-text")},
		{Label: w.T("setup.role-process"), Value: w.T("setup.role-process-text")}, {Label: w.T("setup.role-target"), Value: w.T("setup.role-target-text")}}), nil
}

func (k *Console) vaultBody(v visit, s api.Setup, form *http.Request) (templ.Component, error) {
	w := v.words
	b := view.VaultStep{Folder: s.Vault.Folder, Now: v.now, Escrow: view.Message{Tone: view.Info, Cause: w.T("setup.escrow"), Effect: w.T("setup.escrow-text")}}
	if s.Backup {
		b.Escrow = view.Message{Tone: view.OK, Cause: w.T("setup.escrow-done"), Effect: w.T("setup.escrow-done-text")}
	}
	if form != nil {
		b.Folder = form.PostFormValue("folder")
	} else if p := s.Progress.Probe; p != nil && !s.Vault.InUse {
		b.Folder = p.Folder
	}
	if s.Vault.InUse {
		b.Folder, b.Fixed = s.Vault.Folder, w.T("setup.vault-fixed")
	}
	if p := s.Progress.Probe; p != nil {
		tone := func(bad bool) view.Tone {
			if bad {
				return view.Warn
			}
			return view.OK
		}
		b.Probe = []view.Fact{{Label: w.T("setup.probe-write"), Value: w.Number(p.WriteSpeed/1e6, 0) + " MB/s", Tone: tone(p.WriteSpeed < 50<<20)},
			{Label: w.T("setup.probe-sync"), Value: w.Number(p.Sync.Seconds()*1000, 1) + " ms", Tone: tone(p.Sync > 20*time.Millisecond)},
			{Label: w.T("vault.free"), Value: w.Bytes(p.Free), Note: w.Ago(p.Time, v.now), Tone: tone(p.Free < 20<<30)}, {Label: w.T("setup.probe-folder"), Value: p.Folder}}
	}
	return view.VaultFields(b), nil
}

func (k *Console) applyVault(r *http.Request, actor string) error {
	folder := strings.TrimSpace(r.PostFormValue("folder"))
	if _, err := k.Appliance.ProbeFolder(r.Context(), folder); err != nil || r.PostFormValue("do") == "stay" {
		return err
	}
	return k.Appliance.MoveVault(r.Context(), actor, folder)
}

func (k *Console) siteBody(v visit, s api.Setup, form *http.Request) (templ.Component, error) {
	w := v.words
	r, err := k.records()
	if err != nil {
		return nil, err
	}
	b := view.SiteStep{Now: v.now}
	for _, name := range slices.Sorted(keysOf(r.sites)) {
		site := r.sites[name]
		b.Sites = append(b.Sites, view.Fact{Label: w.Named("site-kind", site.Kind), Value: name, Note: site.Address})
	}
	kind := ""
	if form != nil {
		b.Form.Name, b.Form.Address, kind = form.PostFormValue("name"), form.PostFormValue("address"), form.PostFormValue("kind")
		b.Form.Peer = k.peerToConfirm(v, store.Site{Address: b.Form.Address})
	}
	for _, known := range siteKinds {
		b.Form.Kinds = append(b.Form.Kinds, view.Choice{Value: known, Text: w.Named("site-kind", known), Selected: known == kind})
	}
	return view.SiteFields(b), nil
}

// applySite adds a site after it was contacted. A host that nobody has confirmed yet is
// shown first.
func (k *Console) applySite(r *http.Request, actor string) error {
	site := store.Site{Name: strings.TrimSpace(r.PostFormValue("name")), Kind: r.PostFormValue("kind"), Address: strings.TrimSpace(r.PostFormValue("address")), Fingerprint: confirmed(r)}
	rec, err := k.records()
	if err != nil {
		return err
	}
	wanted := 1
	if r.PathValue("step") == "target" {
		wanted = 2
	}
	if site.Name == "" && site.Address == "" && len(rec.sites) >= wanted {
		return nil // there are enough already
	}
	if kept, there := rec.sites[site.Name]; there && kept.Kind == site.Kind && kept.Address == site.Address {
		return nil // the form was sent before, and the power went before the step was done
	}
	return k.Appliance.AddSite(r.Context(), actor, site)
}

func (k *Console) policyBody(v visit, _ api.Setup, form *http.Request) (templ.Component, error) {
	if form != nil {
		return view.PolicyFields(k.postedPolicy(form)), nil
	}
	r, err := k.records()
	if err != nil {
		return nil, err
	}
	p, there := r.policies["default"]
	if !there {
		p = replication.DefaultPolicy()
	}
	return view.PolicyFields(formOf(p, false)), nil
}

// postedPolicy reads the form of a policy. A lock is taken off by who says so, and stays
// where a form does not speak of it.
func (k *Console) postedPolicy(r *http.Request) view.PolicyForm {
	f := view.PolicyForm{Name: strings.TrimSpace(r.PostFormValue("name")), Copy: r.PostFormValue("copy_frequency"), App: r.PostFormValue("app_frequency"), Freeze: r.PostFormValue("freeze_limit"),
		Threshold: r.PostFormValue("rpo_threshold"), Retention: r.PostFormValue("retention"), Lock: r.PostFormValue("lock_for"), Limit: strings.TrimSpace(r.PostFormValue("limit"))}
	if !r.PostForm.Has("lock_for") {
		old, _ := store.Get(k.Store, store.Policies, f.Name) // a new one has none
		f.Lock = written(old.LockFor)
	}
	return f
}

func (k *Console) applyPolicy(r *http.Request, actor string) error {
	p, err := policyOf(k.postedPolicy(r))
	if err != nil {
		return err
	}
	return k.Appliance.SavePolicy(r.Context(), api.Who{Name: actor, Person: actor}, p)
}

func (k *Console) finishBody(v visit, s api.Setup, _ *http.Request) (templ.Component, error) {
	w := v.words
	r, err := k.records()
	if err != nil {
		return nil, err
	}
	f := view.Finish{Now: v.now}
	for _, step := range wizardSteps()[:len(wizardSteps())-1] {
		title := w.T("setup.step-" + step.name)
		if s.Progress.Done[step.name].IsZero() {
			f.Open = append(f.Open, view.Fact{Value: title, Href: "/setup/" + step.name})
			continue
		}
		f.Facts = append(f.Facts, view.Fact{Label: title, Value: cmp.Or(step.fact(w, s, r), w.T("done"))})
	}
	if !s.Backup {
		f.Open = append(f.Open, view.Fact{Value: w.T("backup.title"), Href: "/settings/backup"})
	}
	f.Next = []view.Action{{Href: "/machines", Icon: "machine", Text: w.T("setup.next-protect")}, {Href: "/settings/backup", Icon: "disk", Text: w.T("setup.next-backup")},
		{Href: "/settings/notifications", Icon: "event", Text: w.T("setup.next-notify")}}
	return view.FinishBody(f), nil
}
