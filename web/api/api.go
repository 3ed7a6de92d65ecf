package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"riparo/store"
	"riparo/store/logs"
)

// Tokens is what the API asks of the identity.
type Tokens interface {
	Claim(ctx context.Context, token, name, password, language, address string) (store.User, error)
	Tokens() ([]store.Token, error)
	CreateToken(actor, name string, role store.Role, life time.Duration) (secret string, token store.Token, err error)
	RevokeToken(actor, id string) error

	Users() ([]store.User, error)
	User(name string) (store.User, error)
	SecondRule() ([]store.Role, error)
	SessionList(user, current string) ([]Session, error)
	EndSession(id, user string) (string, error)
	SignOnSettings
}

// Config is what an API is made of.
type Config struct {
	Store     *store.Store
	Past      *Past // of the store
	Appliance Appliance
	Identity  Tokens
	Audit     Audit
	Logger    *slog.Logger
	Logs      *logs.Reader // what the appliance logged
	Log       *logs.Log    // what it logs to; nil: nowhere
	Support   Support
	Bundled   func(Caller) // notes that somebody had a support bundle
	Version   string
	Now       func() time.Time
	Done      <-chan struct{} // closed when streams are to end
}

// API is all operations. Who may use which is decided before a request comes here.
type API struct {
	Config
	huma     huma.API
	patterns []string
}

// NewAPI gives an API.
func NewAPI(c Config) *API { return &API{Config: c} }

// Caller is who asks.
type Caller struct {
	Name    string
	Person  string // the user behind it: itself, or who made the token
	Role    store.Role
	Address string
	// Holds reports whether what the caller has shown, a token or a session, still opens
	// this call. A stream asks with each beat; nil always holds.
	Holds func() bool
}

func (c Caller) holds() bool { return c.Holds == nil || c.Holds() }

type callerKey struct{}

// WithCaller gives the context of a request whose caller is known.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// Register adds the operations to a mux.
func (a *API) Register(mux *http.ServeMux) {
	config := huma.DefaultConfig("Riparo", a.Version)
	config.Info.Description = "Every button of the console is one of these calls."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema field in answers
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token, made under Settings or with riparo tokens."}}
	config.Security = []map[string][]string{{"token": {}}}
	a.huma = humago.New(recorder{mux, a}, config)
	a.machines()
	a.jobs()
	a.events()
	a.infrastructure()
	a.policies()
	a.guarding()
	a.tokens()
	a.users()
	a.signIn()
	a.logs()
	a.support()
	a.reports()
	a.backups()
	a.auditLog()
	a.notifications()
	a.configuration()
	a.pattern("GET /api/openapi.json")
	mux.HandleFunc("GET /api/openapi.json", a.openAPI)
}

// schemaName names a type in the description. Types of other packages carry the
// package: a machine of the API is not one of the store.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	room := path.Base(t.PkgPath())
	if t.PkgPath() == "" || room == "api" || room == "." {
		return name
	}
	return strings.ToUpper(room[:1]) + room[1:] + name
}

// Patterns are all routes of the API as the mux knows them.
func (a *API) Patterns() []string { return slices.Clone(a.patterns) }

func (a *API) pattern(p string) { a.patterns = append(a.patterns, p) }

// recorder notes every route that huma adds to the mux.
type recorder struct {
	mux *http.ServeMux
	api *API
}

func (r recorder) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	r.api.pattern(pattern)
	r.mux.HandleFunc(pattern, handler)
}

func (r recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) { r.mux.ServeHTTP(w, q) }

func (a *API) openAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	json.NewEncoder(w).Encode(a.huma.OpenAPI())
}

// operation describes one call.
type operation struct {
	id, method, path string
	summary          string
	tag              string
	status           int
	open             bool // without a token
}

// add registers a call. Its errors are problems.
func add[I, O any](a *API, o operation, handler func(context.Context, *I) (*O, error)) {
	schema := a.huma.OpenAPI().Components.Schemas.Schema(problemType, true, "Problem")
	op := huma.Operation{OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Tags: []string{o.tag},
		DefaultStatus: o.status, MaxBodyBytes: maxBody,
		Responses: map[string]*huma.Response{"default": {Description: "A problem",
			Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}}}}}
	if o.method == http.MethodPost && !o.open {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "Sent again within 24 h with the same content, the call is not done again: its answer is repeated. With other content it is refused (422), and while it is under way, too (409)."})
	}
	if o.open {
		op.Security = []map[string][]string{}
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err == nil {
			return out, nil
		}
		if p, ok := err.(*Problem); ok {
			return nil, p
		}
		return nil, a.failed(err)
	})
}

// maxBody is the most that a call may carry.
const maxBody = 64 << 10

// body wraps an answer for huma.
type body[T any] struct{ Body T }

func answer[T any](v T, err error) (*body[T], error) {
	if err != nil {
		return nil, err
	}
	return &body[T]{v}, nil
}

// none is the input of a call without any.
type none struct{}
