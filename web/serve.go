package web

import (
	"cmp"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// Limits of a request.
const (
	// maxBody is the most that a form or an API call may carry: the largest is a
	// note of 4,000 characters.
	maxBody = 64 << 10
	// requestTime is for a whole request: hashing a password behind others, or
	// contacting a site, takes seconds. The limits of headers and of idle connections
	// belong to the server around the console.
	requestTime = 60 * time.Second
)

// csp allows what the console is made of and nothing else. There is no inline
// script and no inline style.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (k *Console) headers(h http.Header) {
	h.Set("Content-Security-Policy", csp)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
	if k.Trusted {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// ServeHTTP is the way every request takes: who asks, for what, and may they.
func (k *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.headers(w.Header())
	control := http.NewResponseController(w)
	deadline := time.Now().Add(requestTime)
	if r.Body != http.NoBody { // behind the request of a stream nothing comes, for days
		control.SetReadDeadline(deadline) // neither is supported by every writer in tests
	}
	control.SetWriteDeadline(deadline)
	handler, pattern := k.mux.Handler(r)
	limit := int64(maxBody)
	if pattern == takingBackup && isMultipart(r) {
		limit = api.MaxBackup + 2*strangersBytes // read piece by piece: see takeBackup
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	if err := k.origins.Check(r); err != nil {
		k.refuse(w, r, http.StatusForbidden, &replication.Problem{Code: "request.cross-origin",
			Cause: "the request came from another web site", Effect: "it was refused",
			Action: "open the console in a window of its own", Remedy: replication.Stop})
		return
	}
	if strings.HasPrefix(pattern, "/") { // the address was not in its plain form: the mux redirects to it
		handler.ServeHTTP(w, r)
		return
	}
	needs := table[pattern]
	if strings.HasPrefix(r.URL.Path, "/api/") || needs == scraper {
		k.serveProgram(w, r, handler, pattern, needs)
		return
	}
	switch pattern {
	case "GET /static/", "GET /healthz", "GET /readyz":
		handler.ServeHTTP(w, r)
		return
	case "GET /live": // writes no session, and hands the connection over
		k.servePage(w, r, handler, pattern, needs)
		return
	}
	k.Identity.Sessions().LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.servePage(w, r, handler, pattern, needs)
	})).ServeHTTP(w, r)
}

// servePage serves a person.
func (k *Console) servePage(w http.ResponseWriter, r *http.Request, handler http.Handler, pattern string, needs access) {
	if pattern == "GET /live" {
		var err error
		if r, err = k.withSession(r); err != nil {
			k.fail(w, r, err)
			return
		}
	}
	claimed, err := k.Identity.Claimed()
	if err != nil {
		k.fail(w, r, err)
		return
	}
	if !claimed && needs != anyone {
		http.Redirect(w, r, "/setup", http.StatusSeeOther)
		return
	}
	user, err := k.user(r)
	if err != nil {
		k.fail(w, r, err)
		return
	}
	bare := false // has to set up a second factor first
	if user != nil {
		if bare, err = k.Identity.NeedsSecond(*user); err != nil {
			k.fail(w, r, err)
			return
		}
	}
	r = r.WithContext(withUser(r.Context(), user))
	if user == nil && needs != anyone {
		if pattern == "GET /live" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, "/login"+nextOf(r), http.StatusSeeOther)
		return
	}
	if pattern == "" {
		k.unknown(w, r, handler)
		return
	}
	status, problem := formProblem(r, pattern)
	who := api.Caller{Address: addressOf(r)}
	if user != nil {
		who.Name, who.Role = user.Name, user.Role
	}
	k.record(w, r, pattern, who, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case needs != anyone && !may(user.Role, needs):
			k.Logger.Warn("a role was refused", "user", user.Name, "role", user.Role, "address", who.Address, "route", pattern)
			k.refuse(w, r, http.StatusForbidden, forbidden(string(user.Role)))
		case problem != nil:
			k.refuse(w, r, status, problem)
		case user != nil && user.MustChange && !beforeChange[pattern]:
			k.back(w, r, "/account")
		case bare && !beforeChange[pattern] && !beforeSecond[pattern]:
			k.back(w, r, "/account")
		default:
			k.mux.ServeHTTP(w, r)
		}
	})
}

// beforeChange is what somebody can do whose password was set by another person:
// choose an own one, or leave.
var beforeChange = map[string]bool{"GET /account": true, "POST /account/password": true, "POST /password/estimate": true, "POST /preferences": true, "POST /logout": true,
	"GET /login": true, "POST /login": true}

// beforeSecond is what somebody can do besides who has to set up a second factor first:
// set one up.
var beforeSecond = map[string]bool{"GET /account/second": true, "POST /account/second": true, "POST /account/second/begin": true,
	"POST /account/passkeys/begin": true, "POST /account/passkeys": true, "GET /static/": true}

// formProblem reads the form of a request as a whole before anything is done. A
// form of which only a part came must not be taken for one that leaves the rest to
// us.
func formProblem(r *http.Request, pattern string) (int, *replication.Problem) {
	if pattern == takingBackup && isMultipart(r) {
		return 0, nil // is judged as it comes
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return 0, nil
	}
	refused := &replication.Problem{Code: "form.refused", Cause: "the form could not be read", Effect: "nothing was done",
		Action: "go back and send it again", Remedy: replication.Stop}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/x-www-form-urlencoded" && r.ContentLength != 0 {
		return http.StatusUnsupportedMediaType, refused
	}
	if err := r.ParseForm(); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			refused.Cause = "the form is too large"
			return http.StatusRequestEntityTooLarge, refused
		}
		return http.StatusBadRequest, refused
	}
	return 0, nil
}

func isMultipart(r *http.Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind == "multipart/form-data"
}

// serveProgram serves the API and metrics: a bearer token, or the session of a
// browser that is signed in.
func (k *Console) serveProgram(w http.ResponseWriter, r *http.Request, handler http.Handler, pattern string, needs access) {
	caller, err := k.caller(r)
	if p, known := errors.AsType[*replication.Problem](err); known {
		w.Header().Set("WWW-Authenticate", `Bearer realm="riparo"`)
		api.WriteProblem(w, http.StatusUnauthorized, p)
		return
	}
	if err != nil {
		k.Logger.Error("who asks is not known", "path", r.URL.Path, "error", err)
		api.WriteProblem(w, http.StatusInternalServerError, replication.AsProblem(err))
		return
	}
	switch {
	case needs == anyone:
	case needs == scraper && (caller.Name != "" || loopback(r)):
	case caller.Name == "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="riparo"`)
		api.WriteProblem(w, http.StatusUnauthorized, &replication.Problem{Code: "api.anonymous", Cause: "the request carries no API token",
			Action: "make a token under Settings and send it as “Authorization: Bearer …”", Remedy: replication.Stop})
		return
	case pattern == "":
		status := statusOf(handler, r)
		if status == http.StatusMethodNotAllowed {
			handler.ServeHTTP(discard{header: w.Header()}, r) // sets Allow
		}
		api.WriteProblem(w, status, &replication.Problem{Code: "api.unknown", Cause: "there is nothing at " + r.Method + " " + r.URL.Path,
			Action: "see /api/openapi.json for what there is", Remedy: replication.Stop})
		return
	}
	k.record(w, r, pattern, caller, func(w http.ResponseWriter, r *http.Request) {
		if needs != anyone && needs != scraper && !may(caller.Role, needs) {
			k.Logger.Warn("a role was refused", "user", caller.Name, "role", caller.Role, "address", caller.Address, "route", pattern)
			api.WriteProblem(w, http.StatusForbidden, forbidden(string(caller.Role)))
			return
		}
		k.once(w, r, pattern, caller, func(w http.ResponseWriter, r *http.Request) {
			caller.Holds = k.holds(r, caller, needs)
			k.mux.ServeHTTP(w, r.WithContext(api.WithCaller(r.Context(), caller)))
		})
	})
}

// holds looks again at the token or the session of a request that does not end.
func (k *Console) holds(r *http.Request, was api.Caller, needs access) func() bool {
	return func() bool {
		now, err := k.caller(r)
		return err == nil && now.Name == was.Name && (needs == anyone || may(now.Role, needs))
	}
}

func forbidden(role string) *replication.Problem {
	return &replication.Problem{Code: "access.denied", Cause: "the role " + role + " may not do this",
		Action: "ask an administrator for another role, or to do it", Remedy: replication.Stop}
}

// caller tells who calls the API. An empty name is nobody; a problem is a token
// that is not good.
func (k *Console) caller(r *http.Request) (api.Caller, error) {
	address := addressOf(r)
	if auth := r.Header.Get("Authorization"); auth != "" {
		secret, ok := strings.CutPrefix(auth, "Bearer ")
		if !ok {
			return api.Caller{}, &replication.Problem{Code: "token.refused", Cause: "the request is not authorized by a bearer token",
				Action: "send “Authorization: Bearer” and an API token", Remedy: replication.Stop}
		}
		token, err := k.Identity.Bearer(secret)
		if err != nil {
			return api.Caller{}, err
		}
		return api.Caller{Name: "token " + token.Name, Person: token.By, Role: token.Role, Address: address}, nil
	}
	r, err := k.withSession(r)
	if err != nil {
		return api.Caller{}, err
	}
	user, err := k.user(r)
	if err != nil || user == nil {
		return api.Caller{Address: address}, err
	}
	if user.MustChange {
		return api.Caller{}, &replication.Problem{Code: "password.first", Cause: "the password was set by somebody else", Effect: "nothing can be done with it but choose another",
			Action: "open the console and choose one", Remedy: replication.Stop}
	}
	if bare, err := k.Identity.NeedsSecond(*user); err != nil || bare {
		return api.Caller{}, cmp.Or(err, error(&replication.Problem{Code: "second.first", Cause: "an account of this role needs a second factor", Effect: "nothing can be done without it",
			Action: "open the console and set one up", Remedy: replication.Stop}))
	}
	return api.Caller{Name: user.Name, Person: user.Name, Role: user.Role, Address: address}, nil
}

// withSession loads the session of a request without renewing it.
func (k *Console) withSession(r *http.Request) (*http.Request, error) {
	sessions := k.Identity.Sessions()
	cookie, err := r.Cookie(sessions.Cookie.Name)
	value := ""
	if err == nil {
		value = cookie.Value
	}
	ctx, err := sessions.Load(r.Context(), value)
	if err != nil {
		return r, err
	}
	return r.WithContext(ctx), nil
}

// user gives the account of a session, or nil.
func (k *Console) user(r *http.Request) (*store.User, error) {
	name := k.Identity.Sessions().GetString(r.Context(), sessionUser)
	if name == "" {
		return nil, nil
	}
	user, err := k.Identity.User(name)
	if errors.Is(err, store.ErrNotFound) { // the account was removed
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if user.Disabled {
		return nil, nil
	}
	return &user, nil
}

// nextOf is the query that brings somebody back to the page they asked for.
func nextOf(r *http.Request) string {
	if r.Method != http.MethodGet || r.URL.Path == "/" {
		return ""
	}
	return "?next=" + url.QueryEscape(r.URL.RequestURI())
}

// local is next when it is a path of this console, and otherwise "/": nobody is
// sent elsewhere by a link to us.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") ||
		strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\x00\r\n\t") {
		return "/"
	}
	return next
}

// addressOf is the address of whoever asks, without its port. Headers of proxies
// are not believed: anybody can write them.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func loopback(r *http.Request) bool {
	ip := net.ParseIP(addressOf(r))
	return ip != nil && ip.IsLoopback()
}

// statusOf is the answer of the mux's own handler: not found, or another method.
func statusOf(handler http.Handler, r *http.Request) int {
	d := discard{header: http.Header{}, status: new(int)}
	handler.ServeHTTP(d, r)
	return *d.status
}

// discard takes the headers of an answer and nothing else.
type discard struct {
	header http.Header
	status *int
}

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(status int) {
	if d.status != nil {
		*d.status = status
	}
}
