package web

import (
	"net/http"
	"slices"

	"riparo/replication/lifecycle"
)

// pages are what there is to look at.
var pages = []page{
	{"GET /{$}", (*Console).overview},
	{"GET /machines", (*Console).machines},
	{"GET /machines/{id}", (*Console).machine},
	{"GET /machines/{id}/dismiss-alarm", (*Console).dismissal},
	{"GET /jobs", (*Console).jobs},
	{"GET /jobs/{id}", (*Console).job},
	{"GET /events", (*Console).events},
	{"GET /infrastructure", (*Console).infrastructure},
	{"GET /reports", (*Console).reports},
	{"GET /reports/drills/{id}", (*Console).drillReport},
	{logsRoute, (*Console).logs},
	{"GET /logs/bundle", (*Console).supportPage},
	{"GET /policies", (*Console).policies},
	{"GET /settings", (*Console).settings},
	{"GET /settings/users", (*Console).users},
	{"GET /settings/users/{name}", (*Console).userPage},
	{"GET /settings/tokens", (*Console).tokens},
	{"GET /settings/sign-in", (*Console).signOn},
	{"GET /account", (*Console).account},
	{"GET /alerts", (*Console).alerts},
	{"GET /settings/appliance", configuring("appliance")},
	{"GET /settings/certificate", configuring("certificate")},
	{"GET /settings/notifications", configuring("notifications")},
	{"GET /settings/backup", configuring("backup")},
	{"GET /settings/about", configuring("about")},
	{"GET /settings/licenses/{id}", (*Console).license},
	{"GET /audit", (*Console).auditPage},
	{"GET /protect", (*Console).protectPage},
	{"GET /infrastructure/add", (*Console).siteForm},
	{"GET /infrastructure/{name}/remove", (*Console).siteRemoval},
	{"GET /infrastructure/{name}/trust", (*Console).siteTrust},
	{"GET /infrastructure/kept/{id}/erase", (*Console).keptErasure},
	{"GET /policies/new", (*Console).policyForm},
	{"GET /policies/{name}", (*Console).policyForm},
}

// route adds every page and form to the mux. The API adds its own.
func (k *Console) route() {
	for _, p := range pages {
		show := k.show(p)
		for _, l := range lists {
			if p.pattern == "GET "+l.path {
				show = k.asKept(l.name, show)
			}
		}
		k.handle(p.pattern, show)
		k.pages.Handle(p.pattern, finder{p})
	}
	for _, v := range lifecycle.Verbs() {
		if v == lifecycle.EnableProtection { // is not asked of a protected machine: see /protect
			continue
		}
		p := page{"GET /machines/{id}/" + string(v), asking(v)}
		k.handle(p.pattern, k.show(p))
		k.handle("POST /machines/{id}/"+string(v), k.ask(v))
	}
	if k.manual != nil {
		for _, pattern := range []string{"GET /help", "GET /help/{page...}"} {
			k.handle(pattern, k.show(page{pattern, (*Console).help}))
		}
	}
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET /static/": k.assets.ServeHTTP,
		"GET /healthz": k.healthz,
		"GET /readyz":  k.readyz,
		"GET /metrics": k.metrics,
		"GET /live":    k.live,

		"GET /setup":              k.setup,
		"POST /setup":             k.claim,
		"GET /setup/{step}":       k.wizard,
		"POST /setup/{step}":      k.wizardPost,
		"POST /setup/checks/{id}": k.runCheck,
		"GET /setup/restore":      k.restorePage,
		"POST /setup/restore":     k.restore,
		takingBackup:              k.takeBackup,

		"GET /settings/certificate/authority": k.authorityFile,
		"GET /settings/backup/{name}":         k.backupFile,
		"POST /settings/appliance":            k.saving("appliance", (*Console).applyGeneral),
		"POST /settings/network":              k.saving("appliance", (*Console).applyProxy),
		"POST /settings/certificate":          k.saving("certificate", (*Console).applyCertificate),
		"POST /settings/certificate/renew":    k.saving("certificate", (*Console).renewCertificate),
		"POST /settings/notifications":        k.saving("notifications", (*Console).applyNotifications),
		"POST /settings/notifications/test":   k.testNotification,
		"POST /settings/backup":               k.saving("backup", (*Console).applyBackup),
		"POST /settings/backup/now":           k.backUpNow,
		"GET /monitoring/rules.yml":           k.monitoringFile("rules.yml", "application/yaml"),
		"GET /monitoring/dashboard.json":      k.monitoringFile("dashboard.json", "application/json"),

		"GET /login":               k.login,
		"POST /login":              k.signIn,
		"POST /logout":             k.signOut,
		"POST /preferences":        k.preferences,
		"POST /preferences/{list}": k.keepView,

		"POST /protect":           k.protect,
		"POST /machines/bulk":     k.bulk,
		"POST /jobs/{id}/cancel":  k.jobAct(k.Appliance.CancelJob),
		"POST /jobs/{id}/restart": k.jobAct(k.Appliance.RestartJob),
		"POST /jobs/{id}/answer":  k.answerJob,

		"POST /infrastructure":                 k.addSite,
		"POST /infrastructure/refresh":         k.refresh,
		"POST /infrastructure/{name}/remove":   k.removeSite,
		"POST /infrastructure/{name}/trust":    k.trustSite,
		"POST /infrastructure/scrub":           k.scrubNow,
		"POST /infrastructure/clock":           k.confirmClock,
		"POST /infrastructure/kept/{id}/erase": k.eraseKept,
		"POST /policies":                       k.savePolicy,

		"GET /audit/export":         k.exportAudit,
		"GET /logs/download":        k.downloadLogs,
		"GET /reports/drills.csv":   k.drillsSheet,
		"GET /reports/rpo.csv":      k.rpoSheet,
		"GET /machines.csv":         k.machinesSheet,
		"GET /jobs.csv":             k.jobsSheet,
		"POST /logs/level":          k.setLogLevel,
		"GET /logs/bundle/download": k.packSupport,

		"POST /machines/{id}/dismiss-alarm":        k.dismissAlarm,
		"POST /machines/{id}/points/{point}/pin":   k.pinPoint,
		"POST /machines/{id}/points/{point}/unpin": k.unpinPoint,
		"POST /approvals/{id}/approve":             k.decide(k.Appliance.Approve),
		"POST /approvals/{id}/refuse":              k.decide(k.Appliance.Refuse),

		"GET /login/second":                  k.secondStep,
		"POST /login/passkey/begin":          k.beginPasskeyLogin,
		"POST /login/passkey":                k.finishPasskeyLogin,
		"POST /account/passkeys/begin":       k.beginPasskey,
		"POST /account/passkeys":             k.addPasskey,
		"POST /account/passkeys/{id}/remove": k.removePasskey,

		"GET /login/openid":                k.beginOpenID,
		"GET " + openIDBack:                k.finishOpenID,
		"POST /settings/sign-in/openid":    k.saveOpenID,
		"POST /settings/sign-in/directory": k.saveDirectory,

		"POST /login/second":      k.finishSignIn,
		"POST /password/estimate": k.estimate,

		"POST /account/password":          k.changePassword,
		"POST /account/second/begin":      k.beginSecond,
		"GET /account/second":             k.secondSetup,
		"POST /account/second":            k.confirmSecond,
		"POST /account/second/codes":      k.newCodes,
		"POST /account/second/remove":     k.removeSecond,
		"POST /account/sessions/{id}/end": k.endOwnSession,

		"POST /settings/tokens":             k.makeToken,
		"POST /settings/tokens/{id}/revoke": k.revokeToken,
		"POST /settings/sessions/{id}/end":  k.endSession,
	} {
		k.handle(pattern, handler)
	}
	for pattern, handler := range k.userActs() {
		k.handle(pattern, handler)
	}
}

// handle adds a route to the mux and remembers it.
func (k *Console) handle(pattern string, handler http.HandlerFunc) {
	k.mux.HandleFunc(pattern, handler)
	k.routes = append(k.routes, pattern)
}

// Patterns are all routes, those of the API included: for those who crawl them.
func (k *Console) Patterns() []string {
	return append(slices.Clone(k.routes), k.api.Patterns()...)
}

// finder puts the page behind an address where find can see it.
type finder struct{ page page }

type found struct {
	page    page
	request *http.Request
}

type foundKey struct{}

func (f finder) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	into, _ := r.Context().Value(foundKey{}).(*found)
	into.page, into.request = f.page, r
}
