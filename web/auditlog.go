package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// AuditLog is where every change is written before it is done; package
// appliance/audit is one.
type AuditLog interface {
	api.Audit
	Append(store.AuditLine) (store.AuditLine, error)
}

// unrecorded are the posts that change nothing for anybody else.
var unrecorded = map[string]bool{"POST /preferences": true, "POST /preferences/{list}": true, "POST /password/estimate": true, "POST /login/passkey/begin": true}

// actions give some routes a better name than the one made of their pattern, and
// the same name to a form and its call.
var actions = map[string]string{
	"POST /setup":                                   "appliance.claim",
	"POST /api/v1/setup":                            "appliance.claim",
	"POST /login":                                   "session.begin",
	"POST /logout":                                  "session.end",
	"POST /protect":                                 "machines.protect",
	"POST /api/v1/machines":                         "machines.protect",
	"POST /infrastructure":                          "sites.add",
	"POST /api/v1/sites":                            "sites.add",
	"POST /infrastructure/{name}/remove":            "sites.remove",
	"DELETE /api/v1/sites/{name}":                   "sites.remove",
	"POST /infrastructure/{name}/trust":             "sites.trust",
	"POST /api/v1/sites/{name}/trust":               "sites.trust",
	"POST /infrastructure/scrub":                    "vault.scrub",
	"POST /infrastructure/clock":                    "vault.clock",
	"POST /infrastructure/kept/{id}/erase":          "vault.erase-kept",
	"POST /api/v1/vault/kept/{id}/erase":            "vault.erase-kept",
	"POST /infrastructure/refresh":                  "sites.refresh",
	"POST /api/v1/discovered/refresh":               "sites.refresh",
	"POST /logs/level":                              "logs.level",
	"PUT /api/v1/logs/level":                        "logs.level",
	"POST /policies":                                "policies.save",
	"PUT /api/v1/policies/{name}":                   "policies.save",
	"POST /login/passkey":                           "session.begin",
	"POST /account/passkeys/begin":                  "account.passkey-begin",
	"POST /account/passkeys":                        "account.passkey-add",
	"POST /account/passkeys/{id}/remove":            "account.passkey-remove",
	"POST /login/second":                            "session.begin",
	"POST /account/sessions/{id}/end":               "account.end-session",
	"POST /settings/sessions/{id}/end":              "users.end-session",
	"POST /account/second":                          "account.second-on",
	"POST /account/second/begin":                    "account.second-begin",
	"POST /account/second/codes":                    "account.second-codes",
	"POST /account/second/remove":                   "account.second-off",
	"POST /settings/users/{name}/role":              "users.role",
	"POST /settings/users/{name}/second":            "users.second-off",
	"POST /settings/tokens":                         "tokens.create",
	"POST /api/v1/tokens":                           "tokens.create",
	"POST /settings/tokens/{id}/revoke":             "tokens.revoke",
	"DELETE /api/v1/tokens/{id}":                    "tokens.revoke",
	"POST /settings/users":                          "users.add",
	"POST /settings/users/{name}/remove":            "users.remove",
	"POST /setup/restore":                           "appliance.restore",
	"POST /setup/restore/backup":                    "appliance.restore-backup",
	"POST /setup/{step}":                            "settings.step",
	"POST /api/v1/settings/steps/{id}":              "settings.step",
	"POST /setup/checks/{id}":                       "checks.run",
	"POST /api/v1/checks/{id}":                      "checks.run",
	"POST /settings/appliance":                      "settings.general",
	"PUT /api/v1/settings/general":                  "settings.general",
	"POST /settings/network":                        "settings.proxy",
	"PUT /api/v1/settings/proxy":                    "settings.proxy",
	"PUT /api/v1/settings/certificate":              "settings.certificate",
	"POST /settings/certificate/renew":              "settings.certificate-renew",
	"POST /api/v1/settings/certificate/renew":       "settings.certificate-renew",
	"PUT /api/v1/settings/vault":                    "settings.vault",
	"POST /api/v1/settings/vault/probe":             "settings.vault-probe",
	"POST /settings/notifications":                  "notifications.save",
	"PUT /api/v1/notifications":                     "notifications.save",
	"POST /settings/notifications/test":             "notifications.test",
	"POST /settings/backup":                         "backups.plan",
	"PUT /api/v1/backups/plan":                      "backups.plan",
	"POST /settings/backup/now":                     "backups.now",
	"POST /api/v1/backups":                          "backups.now",
	"POST /settings/second-factor":                  "users.second-rule",
	"PUT /api/v1/sign-in/second-factor":             "users.second-rule",
	"POST /settings/users/{name}/disable":           "users.disable",
	"POST /settings/users/{name}/enable":            "users.enable",
	"POST /settings/users/{name}/reset":             "users.reset",
	"POST /api/v1/users/{name}/reset-password":      "users.reset",
	"POST /api/v1/users/{name}/reset-second-factor": "users.second-off",
	"PUT /api/v1/users/{name}/role":                 "users.role",
	"DELETE /api/v1/users/{name}":                   "users.remove",
	"POST /api/v1/users":                            "users.add",
	"DELETE /api/v1/sessions/{id}":                  "users.end-session",
	"PUT /api/v1/sign-in/openid":                    "settings.sign-in.openid",
	"PUT /api/v1/sign-in/directory":                 "settings.sign-in.directory",
	"POST /api/v1/sign-in/openid/test":              "sign-in.test",
	"POST /api/v1/sign-in/directory/test":           "sign-in.test",
}

// recorded reports whether a route is written to the audit log: all that can
// change something are, whoever forgot to say so.
func recorded(pattern string) bool {
	method, _, _ := strings.Cut(pattern, " ")
	return pattern != "" && method != "GET" && method != "/" && !unrecorded[pattern]
}

// actionOf names what a route does: "machines.pause".
func actionOf(pattern string) string {
	if name := actions[pattern]; name != "" {
		return name
	}
	method, path, _ := strings.Cut(pattern, " ")
	var words []string
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/api/v1"), "/") {
		if segment != "" && !strings.HasPrefix(segment, "{") {
			words = append(words, segment)
		}
	}
	if method != "POST" || len(words) < 2 {
		words = append(words, strings.ToLower(method))
	}
	return strings.Join(words, ".")
}

// objectOf is what a request is about: the blanks of its pattern.
func objectOf(pattern string, r *http.Request) string {
	_, path, _ := strings.Cut(pattern, " ")
	given := strings.Split(r.URL.Path, "/")
	var values []string
	for i, segment := range strings.Split(path, "/") {
		if strings.HasPrefix(segment, "{") && i < len(given) {
			values = append(values, given[i])
		}
	}
	return strings.Join(values, " ")
}

// plainFields are the fields of forms and calls whose values are written to the
// audit log. Of any other only the name is: what is new is taken for a secret until
// somebody says otherwise.
var plainFields = map[string]bool{"name": true, "role": true, "life": true, "hours": true, "language": true, "point": true, "points": true, "note": true, "network": true,
	"sync_first": true, "confirm": true, "keep_points": true, "notes": true, "site": true, "ref": true, "target": true, "policy": true, "disk": true, "disks": true,
	"kind": true, "copy": true, "copy_frequency": true, "app": true, "app_consistent_frequency": true, "freeze": true, "freeze_limit": true, "threshold": true,
	"rpo_threshold": true, "retention": true, "lock_for": true, "limit": true, "bytes_per_second": true, "boot_sign": true, "scope": true, "level": true, "disabled": true,
	"enabled": true, "label": true, "issuer": true, "client_id": true, "own_address": true, "scopes": true, "name_claim": true, "role_claim": true, "rules": true, "url": true, "start_tls": true, "bind_dn": true, "base_dn": true,
	"filter": true, "name_attribute": true, "group_base_dn": true, "group_filter": true, "fingerprint": true, "trust": true}

// maxDetail bounds the value of one field.
const maxDetail = 200

// detailOf tells what a form or a call asks for, without its secrets. The body of a
// call is put back for whoever reads it next.
func detailOf(r *http.Request) (string, error) {
	fields := map[string]string{}
	// The API reads a body as JSON whatever its kind says, and a form is refused that is none.
	if strings.HasPrefix(r.URL.Path, "/api/") {
		text, err := io.ReadAll(r.Body) // bounded by maxBody
		if err != nil {
			return "", err
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
		var body map[string]json.RawMessage
		if json.Unmarshal(text, &body) != nil {
			return "", nil // the call will say what is wrong
		}
		for name, value := range body {
			fields[name] = strings.Trim(string(value), `"`)
		}
	}
	for name, values := range r.PostForm {
		fields[name] = strings.Join(values, ",")
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		switch {
		case value == "" || name == "next":
			continue
		case !plainFields[name]:
			value = "•••"
		case len(value) > maxDetail:
			value = strings.ToValidUTF8(value[:maxDetail], "") + "…"
		}
		if len(name) > 40 || len(parts) == 40 { // not one of ours
			continue
		}
		parts = append(parts, name+"="+value)
	}
	return strings.Join(parts, " "), nil
}

// record serves a request that can change something and writes both to the audit
// log: that it was asked for, before, and what came of it. What cannot be written
// is not done. A stranger's request has only the second line, and that not always: there
// is no telling how many strangers there are.
func (k *Console) record(w http.ResponseWriter, r *http.Request, pattern string, who api.Caller, serve http.HandlerFunc) {
	if !recorded(pattern) {
		serve(w, r)
		return
	}
	detail, err := detailOf(r)
	if who.Name == "" {
		detail = "" // somebody may have typed a password for a name
	}
	if err != nil {
		status := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status = http.StatusRequestEntityTooLarge
		}
		api.WriteProblem(w, status, &replication.Problem{Code: "request.cut", Cause: "the request could not be read", Effect: "nothing was done", Action: "send it again", Remedy: replication.Stop})
		return
	}
	note := &api.AuditNote{Actor: who.Name, Role: who.Role, Object: objectOf(pattern, r)}
	line := store.AuditLine{Actor: who.Name, Role: who.Role, Address: addressOf(r), Action: actionOf(pattern), Object: note.Object, Detail: detail, Outcome: store.AuditAsked}
	asked := uint64(0)
	if who.Name != "" {
		k.recordUntold()
		written, err := k.Audit.Append(line)
		if err != nil {
			k.Logger.Error("a request was refused because the audit log cannot be written", "error", err)
			p := &replication.Problem{Code: "audit.unwritten", Cause: "the audit log cannot be written", Effect: "nothing was done",
				Action: "see the log of the appliance for what keeps its disk from being written", Remedy: replication.Retry}
			if strings.HasPrefix(r.URL.Path, "/api/") {
				api.WriteProblem(w, http.StatusServiceUnavailable, p)
			} else {
				k.refuse(w, r, http.StatusServiceUnavailable, p)
			}
			return
		}
		asked = written.Sequence
		line = store.AuditLine{Actor: who.Name, Role: who.Role, Address: line.Address, Action: line.Action}
	}
	answer := &heldAnswer{ResponseWriter: w}
	defer answer.send()
	serve(answer, r.WithContext(api.WithAudit(r.Context(), note)))
	if who.Name == "" && (note.Actor == "" && answer.status < 400 || unread[answer.status]) {
		return
	}
	line.Of, line.Actor, line.Role, line.Object, line.Before, line.After = asked, note.Actor, note.Role, note.Object, note.Before, note.After
	switch {
	case answer.status < 400:
		line.Outcome = store.AuditDone
	case answer.status < 500:
		line.Outcome = store.AuditRefused
	default:
		line.Outcome = store.AuditFailed
	}
	if who.Name == "" {
		if note.Actor == "" {
			k.recordStranger(line)
			return
		}
		k.recordUntold() // before the one who has just signed in
	}
	if _, err := k.Audit.Append(line); err != nil {
		k.Logger.Error("the outcome of a request is not in the audit log", "of", asked, "action", line.Action, "error", err)
	}
}

// unread are the answers to strangers that are not recorded: rubbish, and those who
// have to wait, say nothing. What is left has its bound: see strangers.
var unread = map[int]bool{http.StatusBadRequest: true, http.StatusRequestEntityTooLarge: true, http.StatusUnsupportedMediaType: true, http.StatusTooManyRequests: true}

// heldAnswer keeps an answer until its outcome is recorded: whoever has an answer
// finds it in the log. Answers to forms and calls are pages at most.
type heldAnswer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) WriteHeader(status int) {
	if h.status == 0 {
		h.status = status
	}
}

func (h *heldAnswer) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	return h.body.Write(p)
}

// Unwrap lets an http.ResponseController reach the writer below.
func (h *heldAnswer) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// send gives the answer to whoever waits for it.
func (h *heldAnswer) send() {
	if h.status != 0 {
		h.ResponseWriter.WriteHeader(h.status)
	}
	h.ResponseWriter.Write(h.body.Bytes())
}
