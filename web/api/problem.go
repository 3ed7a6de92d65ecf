package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"riparo/replication"
	"riparo/store"
)

// Problem is an error as the API tells it: RFC 9457 and what a person needs.
type Problem struct {
	Type   string `json:"type" doc:"Always about:blank: the code tells problems apart."`
	Title  string `json:"title" doc:"The HTTP status in words."`
	Status int    `json:"status"`
	Detail string `json:"detail" doc:"Cause, effect and action as one sentence."`
	Code   string `json:"code,omitempty" doc:"Stable name of the problem." example:"job.busy"`
	Cause  string `json:"cause,omitempty" doc:"What happened, and to what."`
	Effect string `json:"effect,omitempty" doc:"What that means."`
	Action string `json:"action,omitempty" doc:"What to do next."`
	Remedy string `json:"remedy,omitempty" enum:"retry,resynchronize,stop" doc:"What the machinery does about it by itself."`
}

// Error makes Problem an error of huma.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// told is a problem as the API tells it.
func told(status int, p *replication.Problem) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: p.Error(),
		Code: p.Code, Cause: p.Cause, Effect: p.Effect, Action: p.Action, Remedy: p.Remedy.String()}
}

// ProblemOf is a problem as a part of an answer, or nil.
func ProblemOf(p *replication.Problem) *Problem {
	if p == nil {
		return nil
	}
	return told(http.StatusConflict, p)
}

// WriteProblem answers a request with a problem.
func WriteProblem(w http.ResponseWriter, status int, p *replication.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(told(status, p))
}

// statusOf chooses the HTTP status of an error of the daemon. A request that is
// refused because of how things stand is a conflict.
func statusOf(err error, p *replication.Problem) int {
	switch {
	case errors.Is(err, store.ErrNotFound), p.Code == "machine.unknown", p.Code == "job.unknown":
		return http.StatusNotFound
	case invalid[p.Code]:
		return http.StatusUnprocessableEntity
	case p.Code == "internal" || p.Code == "":
		return http.StatusInternalServerError
	case p.Remedy == replication.Retry:
		return http.StatusServiceUnavailable
	case p.Code == "setup.token", p.Code == "login.refused":
		return http.StatusForbidden
	case p.Code == "login.locked":
		return http.StatusTooManyRequests
	}
	return http.StatusConflict
}

// invalid are the problems of what was sent, whatever the state of things.
var invalid = map[string]bool{"policy.invalid": true, "policy.unknown": true, "site.unknown": true, "site.name": true, "site.kind": true,
	"disk.unknown": true, "point.unknown": true, "network.unknown": true, "target.same": true, "scenario.unknown": true, "confirm.missing": true,
	"password.short": true, "password.long": true, "password.weak": true, "user.name": true, "token.name": true, "role.unknown": true,
	"setting.invalid": true, "certificate.refused": true, "probe.folder": true, "probe.full": true, "setup.step": true, "notify.invalid": true, "notify.channel": true, "backup.plan": true, "backup.folder": true, "backup.passphrase-short": true, "backup.no-passphrase": true}

// failed turns an error of the daemon into an answer.
func (a *API) failed(err error) error {
	p := replication.AsProblem(err)
	status := statusOf(err, p)
	if status == http.StatusNotFound && p.Code == "internal" {
		p = &replication.Problem{Code: "not.found", Cause: p.Cause, Action: "check the name", Remedy: replication.Stop}
	}
	if status == http.StatusInternalServerError {
		a.Logger.Error("an API call went wrong", "error", err)
	}
	header := http.Header{}
	if RetryAfter(header, err); len(header) > 0 {
		return huma.ErrorWithHeaders(told(status, p), header)
	}
	return told(status, p)
}

// refused is a problem of the request itself.
func refused(code, cause, action string) error {
	return told(http.StatusUnprocessableEntity, &replication.Problem{Code: code, Cause: cause, Action: action, Remedy: replication.Stop})
}
