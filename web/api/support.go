package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"riparo/store"
	"riparo/store/bundle"
	"riparo/store/redact"
)

// Support gives what a support bundle has, and the secrets that are not to be in it.
type Support func(ctx context.Context) ([]bundle.Part, *redact.Values, error)

func (a *API) support() {
	add(a, operation{id: "list-support-bundle", method: "GET", path: "/api/v1/support-bundle/parts", tag: "Support", summary: "What a support bundle would have, and how large it would be"},
		func(ctx context.Context, _ *none) (*body[[]bundle.Part], error) {
			parts, _, err := a.Support(ctx)
			return answer(parts, err)
		})
	add(a, operation{id: "get-support-bundle", method: "GET", path: "/api/v1/support-bundle", tag: "Support", summary: "A ZIP file with log, records and figures, without secrets"}, a.getSupport)
}

func (a *API) getSupport(ctx context.Context, _ *none) (*huma.StreamResponse, error) {
	parts, secrets, err := a.Support(ctx)
	if err != nil {
		return nil, a.failed(err)
	}
	caller := callerOf(ctx)
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		a.SendSupport(ctx, w, caller, parts, secrets)
	}}, nil
}

// SendSupport answers a request with a support bundle.
func (a *API) SendSupport(ctx context.Context, w http.ResponseWriter, who Caller, parts []bundle.Part, secrets *redact.Values) {
	now := a.Now()
	a.Bundled(who)
	err := a.Store.Update(func(tx *store.Tx) error {
		return tx.AddEvent(store.Event{Severity: store.SeverityInfo, Code: "support.bundled", Text: "a support bundle was downloaded by " + who.Name, Args: map[string]string{"actor": who.Name}})
	})
	if err != nil { // a store that takes nothing more is a reason to want a bundle
		a.Logger.Warn("the event of a support bundle was not kept", "error", err)
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="riparo-support-%s.zip"`, now.UTC().Format("20060102-150405")))
	if err := bundle.Write(ctx, Patient(w), a.Version, now, parts, secrets); err != nil {
		if ctx.Err() == nil {
			a.Logger.Warn("a support bundle broke off", "error", err)
		}
		panic(http.ErrAbortHandler) // half a ZIP file must not look like a whole one
	}
}
