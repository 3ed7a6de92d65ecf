package api

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"riparo/store"
)

// Audit is what the API asks of the audit log.
type Audit interface {
	// Page gives up to limit lines before the one of this sequence, newest first; 0
	// begins at the end.
	Page(before uint64, limit int) ([]store.AuditLine, error)
	// Export writes all lines as JSON, one a line, oldest first.
	Export(ctx context.Context, w io.Writer) error
	// Verify reads the whole log and tells what is not as it was written.
	Verify(ctx context.Context) (store.AuditReport, error)
}

// AuditNote is what a call adds to its line in the audit log.
type AuditNote struct {
	Actor         string // of a sign-in: who it was
	Role          store.Role
	Object        string
	Before, After string
}

// Change notes what of a record differs: only that, so that a line stays short. nil
// is a record that is not there. Both are written as JSON; what is a secret has no
// place in it.
func (n *AuditNote) Change(before, after any) {
	a, b := fieldsOf(before), fieldsOf(after)
	for name, value := range a {
		if other, ok := b[name]; ok && string(other) == string(value) {
			delete(a, name)
			delete(b, name)
		}
	}
	n.Before, n.After = spell(a), spell(b)
}

func fieldsOf(record any) map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	if text, err := json.Marshal(record); err == nil && record != nil {
		json.Unmarshal(text, &fields) // what is no object has no fields
	}
	return fields
}

func spell(fields map[string]json.RawMessage) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, name+"="+strings.Trim(string(fields[name]), `"`))
	}
	return strings.Join(parts, " ")
}

type auditKey struct{}

// WithAudit gives the context of a request that is recorded.
func WithAudit(ctx context.Context, note *AuditNote) context.Context {
	return context.WithValue(ctx, auditKey{}, note)
}

// AuditOf gives the note of a request. Of one that is not recorded it gives a note
// that nobody reads.
func AuditOf(ctx context.Context) *AuditNote {
	if note, ok := ctx.Value(auditKey{}).(*AuditNote); ok {
		return note
	}
	return &AuditNote{}
}

type auditInput struct {
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	Before uint64 `query:"before" doc:"Only lines before the one of this sequence."`
}

func (a *API) auditLog() {
	const tag = "Audit"
	add(a, operation{id: "list-audit", method: "GET", path: "/api/v1/audit", tag: tag, summary: "The audit log, newest first"},
		func(_ context.Context, in *auditInput) (*body[[]store.AuditLine], error) {
			lines, err := a.Config.Audit.Page(in.Before, in.Limit)
			if lines == nil {
				lines = []store.AuditLine{}
			}
			return answer(lines, err)
		})
	add(a, operation{id: "verify-audit", method: "GET", path: "/api/v1/audit/verify", tag: tag, summary: "Verify the chain of the audit log"},
		func(ctx context.Context, _ *none) (*body[store.AuditReport], error) {
			return answer(a.Config.Audit.Verify(ctx))
		})
	add(a, operation{id: "export-audit", method: "GET", path: "/api/v1/audit/export", tag: tag, summary: "The whole audit log as JSON lines, oldest first"}, a.exportAudit)
}

func (a *API) exportAudit(ctx context.Context, _ *none) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", auditType)
		c.SetHeader("Content-Disposition", auditFile)
		if err := a.Config.Audit.Export(ctx, c.BodyWriter()); err != nil {
			a.Logger.Error("the audit log was not exported as a whole", "error", err)
			panic(http.ErrAbortHandler) // a short answer must not look like a whole one
		}
	}}, nil
}

const (
	auditType = "application/jsonl"
	auditFile = `attachment; filename="riparo-audit.jsonl"`
)

// ExportAudit answers with the audit log as JSON, one line a line.
func ExportAudit(w http.ResponseWriter, r *http.Request, log Audit) error {
	w.Header().Set("Content-Type", auditType)
	w.Header().Set("Content-Disposition", auditFile)
	return log.Export(r.Context(), w)
}

// AuditLines lists the audit log, newest first.
func (c *Client) AuditLines(ctx context.Context, before uint64, limit int) ([]store.AuditLine, error) {
	return get[[]store.AuditLine](ctx, c, "/api/v1/audit", queryOf("before", number(int(before)), "limit", number(limit)))
}

// VerifyAudit verifies the chain of the audit log.
func (c *Client) VerifyAudit(ctx context.Context) (store.AuditReport, error) {
	return get[store.AuditReport](ctx, c, "/api/v1/audit/verify", nil)
}

// ExportAudit writes the whole audit log as JSON lines.
func (c *Client) ExportAudit(ctx context.Context, w io.Writer) error {
	response, err := c.send(ctx, http.MethodGet, "/api/v1/audit/export", nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil {
		return c.unreachable(ctx, err)
	}
	return nil
}
