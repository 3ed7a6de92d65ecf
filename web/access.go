package web

import "riparo/store"

// access says who may use a route. The zero value is nobody: what was forgotten
// is refused.
type access int

const (
	nobody        access = iota
	anyone               // also without an account
	scraper              // metrics: a loopback address, or whoever may read
	reader               // everybody with an account
	auditing             // reads the audit log: auditors and administrators
	operator             // tests, and keeps replication going
	recoverer            // moves production
	administrator        // decides what is protected, how, and by whom
)

// rank is what a role may use, up to and including. What is for auditors is beside
// that order: see may.
var rank = map[store.Role]access{
	store.Viewer:           reader,
	store.Auditor:          auditing,
	store.Operator:         operator,
	store.RecoveryOperator: recoverer,
	store.Administrator:    administrator,
}

// may reports whether a role may use what needs a.
func may(role store.Role, a access) bool {
	if a == auditing {
		return role == store.Auditor || role == store.Administrator
	}
	return a != nobody && rank[role] >= a
}

// table is every route and who may use it.
var table = map[string]access{
	// Files and signs of life.
	"GET /static/": anyone,
	"GET /healthz": anyone,
	"GET /readyz":  anyone,
	"GET /metrics": scraper,

	// The way in.
	"GET /setup":                 anyone,
	"POST /setup":                anyone,
	"GET /login":                 anyone,
	"POST /login":                anyone,
	"POST /login/passkey/begin":  anyone,
	"POST /login/passkey":        anyone,
	"GET /login/openid":          anyone,
	"GET /login/openid/callback": anyone,
	"GET /login/second":          anyone, // shows nothing but to whom the password was right
	"POST /login/second":         anyone,
	"POST /password/estimate":    anyone, // of whoever claims the appliance; see there
	"POST /logout":               anyone,
	"POST /preferences":          anyone,

	// What everybody may see.
	"GET /{$}":                 reader,
	"GET /machines":            reader,
	"GET /machines/{id}":       reader,
	"GET /jobs":                reader,
	"GET /jobs/{id}":           reader,
	"GET /events":              reader,
	"GET /infrastructure":      reader,
	"GET /policies":            reader,
	"GET /settings":            reader,
	"GET /logs":                reader,
	"GET /logs/download":       reader,
	"GET /reports":             reader,
	"GET /reports/drills/{id}": reader,
	"GET /reports/drills.csv":  reader,
	"GET /reports/rpo.csv":     reader,
	"GET /machines.csv":        reader,
	"GET /jobs.csv":            reader,
	"GET /help":                reader,
	"GET /help/{page...}":      reader,
	"GET /live":                reader,

	// One's own account.
	"GET /account":                       reader,
	"POST /account/password":             reader,
	"GET /account/second":                reader,
	"POST /account/second":               reader,
	"POST /account/second/begin":         reader,
	"POST /account/second/codes":         reader,
	"POST /account/second/remove":        reader,
	"POST /account/passkeys/begin":       reader,
	"POST /account/passkeys":             reader,
	"POST /account/passkeys/{id}/remove": reader,
	"POST /account/sessions/{id}/end":    reader,

	// What was done, and by whom.
	"GET /audit":               auditing,
	"GET /audit/export":        auditing,
	"GET /api/v1/audit":        auditing,
	"GET /api/v1/audit/verify": auditing,
	"GET /api/v1/audit/export": auditing,

	// Exercises, and what keeps replication going.
	"GET /machines/{id}/test-failover":          operator,
	"POST /machines/{id}/test-failover":         operator,
	"GET /machines/{id}/cleanup-test-failover":  operator,
	"POST /machines/{id}/cleanup-test-failover": operator,
	"GET /machines/{id}/resynchronize":          operator,
	"POST /machines/{id}/resynchronize":         operator,
	"GET /machines/{id}/pause":                  operator,
	"POST /machines/{id}/pause":                 operator,
	"GET /machines/{id}/resume":                 operator,
	"POST /machines/{id}/resume":                operator,
	"POST /jobs/{id}/cancel":                    operator,
	"POST /jobs/{id}/restart":                   operator,
	"POST /jobs/{id}/answer":                    operator,
	"POST /infrastructure/refresh":              operator,

	// What moves production.
	"GET /machines/{id}/planned-failover":       recoverer,
	"POST /machines/{id}/planned-failover":      recoverer,
	"GET /machines/{id}/unplanned-failover":     recoverer,
	"POST /machines/{id}/unplanned-failover":    recoverer,
	"GET /machines/{id}/change-recovery-point":  recoverer,
	"POST /machines/{id}/change-recovery-point": recoverer,
	"GET /machines/{id}/commit":                 recoverer,
	"POST /machines/{id}/commit":                recoverer,
	"GET /machines/{id}/complete-migration":     recoverer,
	"POST /machines/{id}/complete-migration":    recoverer,
	"GET /machines/{id}/reverse-replicate":      recoverer,
	"POST /machines/{id}/reverse-replicate":     recoverer,
	"GET /machines/{id}/failback":               recoverer,
	"POST /machines/{id}/failback":              recoverer,

	// What is protected, how, and by whom.
	"GET /protect":                             administrator,
	"POST /protect":                            administrator,
	"GET /machines/{id}/dismiss-alarm":         recoverer,
	"POST /machines/{id}/dismiss-alarm":        recoverer,
	"POST /machines/{id}/points/{point}/pin":   recoverer,
	"POST /machines/{id}/points/{point}/unpin": administrator,
	"POST /approvals/{id}/approve":             administrator,
	"POST /approvals/{id}/refuse":              administrator,
	"POST /infrastructure/scrub":               operator,

	"POST /api/v1/machines/{id}/dismiss-alarm":        recoverer,
	"POST /api/v1/machines/{id}/points/{point}/pin":   recoverer,
	"POST /api/v1/machines/{id}/points/{point}/unpin": administrator,
	"POST /api/v1/machines/{id}/delete-points":        administrator,
	"GET /api/v1/approvals":                           administrator,
	"POST /api/v1/approvals/{id}/approve":             administrator,
	"POST /api/v1/approvals/{id}/refuse":              administrator,
	"GET /api/v1/vault/scrub":                         reader,
	"POST /api/v1/vault/scrub":                        operator,

	"GET /machines/{id}/disable-protection":  administrator,
	"POST /machines/{id}/disable-protection": administrator,
	"GET /infrastructure/add":                administrator,
	"POST /infrastructure":                   administrator,
	"GET /infrastructure/{name}/remove":      administrator,
	"POST /infrastructure/{name}/remove":     administrator,
	"GET /policies/new":                      administrator,
	"GET /policies/{name}":                   administrator,
	"POST /policies":                         administrator,
	"POST /logs/level":                       administrator,
	"GET /logs/bundle":                       administrator,
	"GET /logs/bundle/download":              administrator,
	"GET /settings/sign-in":                  administrator,
	"POST /settings/sign-in/openid":          administrator,
	"POST /settings/sign-in/directory":       administrator,
	"GET /settings/tokens":                   administrator,
	"GET /alerts":                            reader,
	"GET /settings/appliance":                administrator,
	"GET /settings/certificate":              administrator,
	"GET /settings/certificate/authority":    reader,
	"GET /settings/notifications":            administrator,
	"GET /settings/backup":                   administrator,
	"GET /settings/backup/{name}":            administrator,
	"GET /settings/about":                    reader,
	"GET /monitoring/rules.yml":              reader,
	"GET /monitoring/dashboard.json":         reader,
	"POST /settings/appliance":               administrator,
	"POST /settings/network":                 administrator,
	"POST /settings/certificate":             administrator,
	"POST /settings/certificate/renew":       administrator,
	"POST /settings/notifications":           administrator,
	"POST /settings/notifications/test":      administrator,
	"POST /settings/backup":                  administrator,
	"POST /settings/backup/now":              administrator,
	"GET /setup/{step}":                      administrator,
	"POST /setup/{step}":                     administrator,
	"POST /setup/checks/{id}":                administrator,
	"POST /setup/restore":                    anyone,
	"POST /settings/tokens":                  administrator,
	"POST /settings/tokens/{id}/revoke":      administrator,
	"GET /settings/users":                    administrator,
	"POST /settings/users":                   administrator,
	"GET /settings/users/{name}":             administrator,
	"POST /settings/users/{name}/role":       administrator,
	"POST /settings/users/{name}/disable":    administrator,
	"POST /settings/users/{name}/enable":     administrator,
	"POST /settings/users/{name}/reset":      administrator,
	"POST /settings/users/{name}/second":     administrator,
	"POST /settings/sessions/{id}/end":       administrator,
	"POST /settings/users/{name}/remove":     administrator,

	// The API: the same verbs, the same rights.
	"GET /api/openapi.json":            anyone,
	"POST /api/v1/setup":               anyone,
	"GET /api/v1/about":                reader,
	"GET /api/v1/report":               reader,
	"GET /api/v1/vault":                reader,
	"GET /api/v1/discovered":           reader,
	"GET /api/v1/machines":             reader,
	"GET /api/v1/machines/{id}":        reader,
	"GET /api/v1/jobs":                 reader,
	"GET /api/v1/jobs/{id}":            reader,
	"GET /api/v1/events":               reader,
	"GET /api/v1/event-log":            reader,
	"GET /api/v1/logs":                 reader,
	"GET /api/v1/logs/stream":          reader,
	"GET /api/v1/logs/level":           reader,
	"PUT /api/v1/logs/level":           administrator,
	"GET /api/v1/support-bundle":       administrator,
	"GET /api/v1/reports/drills":       reader,
	"GET /api/v1/reports/rpo":          reader,
	"GET /api/v1/support-bundle/parts": administrator,
	"GET /api/v1/policies":             reader,
	"GET /api/v1/policies/{name}":      reader,
	"GET /api/v1/sites":                reader,

	"GET /api/v1/machines/{id}/points":                 reader,
	"POST /api/v1/machines/{id}/test-failover":         operator,
	"POST /api/v1/machines/{id}/cleanup-test-failover": operator,
	"POST /api/v1/machines/{id}/resynchronize":         operator,
	"POST /api/v1/machines/{id}/pause":                 operator,
	"POST /api/v1/machines/{id}/resume":                operator,
	"POST /api/v1/jobs/{id}/cancel":                    operator,
	"POST /api/v1/jobs/{id}/restart":                   operator,
	"POST /api/v1/jobs/{id}/answer":                    operator,
	"POST /api/v1/discovered/refresh":                  operator,
	"POST /api/v1/machines/{id}/planned-failover":      recoverer,
	"POST /api/v1/machines/{id}/unplanned-failover":    recoverer,
	"POST /api/v1/machines/{id}/change-recovery-point": recoverer,
	"POST /api/v1/machines/{id}/commit":                recoverer,
	"POST /api/v1/machines/{id}/complete-migration":    recoverer,
	"POST /api/v1/machines/{id}/reverse-replicate":     recoverer,
	"POST /api/v1/machines/{id}/failback":              recoverer,
	"POST /api/v1/machines":                            administrator,
	"POST /api/v1/machines/{id}/disable-protection":    administrator,
	"PUT /api/v1/policies/{name}":                      administrator,
	"POST /api/v1/sites":                               administrator,
	"DELETE /api/v1/sites/{name}":                      administrator,
	"GET /api/v1/settings":                             administrator,
	"PUT /api/v1/settings/general":                     administrator,
	"PUT /api/v1/settings/proxy":                       administrator,
	"PUT /api/v1/settings/certificate":                 administrator,
	"POST /api/v1/settings/certificate/renew":          administrator,
	"POST /api/v1/settings/vault/probe":                administrator,
	"PUT /api/v1/settings/vault":                       administrator,
	"POST /api/v1/settings/peer":                       administrator,
	"POST /api/v1/settings/steps/{id}":                 administrator,
	"POST /api/v1/checks/{id}":                         administrator,
	"GET /api/v1/alerts":                               reader,
	"GET /api/v1/notifications":                        administrator,
	"PUT /api/v1/notifications":                        administrator,
	"POST /api/v1/notifications/test":                  administrator,
	"GET /api/v1/notifications/messages":               administrator,
	"GET /api/v1/backups":                              administrator,
	"POST /api/v1/backups":                             administrator,
	"PUT /api/v1/backups/plan":                         administrator,
	"GET /api/v1/backups/{name}":                       administrator,
	"GET /api/v1/tokens":                               administrator,
	"POST /api/v1/tokens":                              administrator,
	"DELETE /api/v1/tokens/{id}":                       administrator,
}
