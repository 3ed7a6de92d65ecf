package web_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// client is a program with a token of a role.
func (h *house) client(role store.Role) *api.Client {
	h.Helper()
	secret, _, err := h.identity.CreateToken(user, "program", role, 0)
	if err != nil {
		h.Fatal(err)
	}
	c, err := api.New(h.server.URL, secret, h.fingerprint())
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(c.Close)
	return c
}

func (h *house) fingerprint() string {
	sum := sha256.Sum256(h.server.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

func apiToken(name string) api.TokenBody {
	return api.TokenBody{Name: name, Role: store.Viewer, Hours: 1}
}

func problemOf(t *testing.T, err error) *replication.Problem {
	t.Helper()
	p, ok := errors.AsType[*replication.Problem](err)
	if !ok {
		t.Fatalf("got %v: want a problem", err)
	}
	return p
}

func TestTheClientReadsEverything(t *testing.T) {
	h := newHouse(t, true).claimed()
	c, ctx := h.client(store.Administrator), t.Context()
	about, err := c.About(ctx)
	if err != nil || about.User != "token program" || about.Role != store.Administrator || about.Version != "0.1.0-test" {
		t.Errorf("about: %+v, %v", about, err)
	}
	machines, err := c.Machines(ctx)
	if err != nil || len(machines) != 6 {
		t.Fatalf("machines: %d, %v", len(machines), err)
	}
	web01, err := c.Machine(ctx, "m-4f7c21aa")
	if err != nil || web01.Name != "web01" || web01.RPOSeconds == nil || *web01.RPOSeconds < 12 || !slices.Contains(web01.Allowed, lifecycle.TestFailover) || web01.Denied[lifecycle.Commit] == "" {
		t.Errorf("machine: %+v, %v", web01, err)
	}
	mail, err := c.Machine(ctx, "m-91ce0b33")
	if err != nil || mail.RPOSeconds != nil {
		t.Errorf("the RPO of a machine without a point: %v, %v: want none", mail.RPOSeconds, err)
	}
	points, err := c.Points(ctx, "m-4f7c21aa")
	if err != nil || len(points) < 500 || !points[0].Later(points[1]) {
		t.Errorf("points: %d, %v", len(points), err)
	}
	report, err := c.Report(ctx)
	if err != nil || len(report.Throughput) != 360 || len(report.Machines) != 6 {
		t.Errorf("report: %d samples, %d machines, %v", len(report.Throughput), len(report.Machines), err)
	}
	if files := report.Machines["m-a2b3c4d5"]; files.RPO[210] != nil || files.RPO[0] == nil {
		t.Error("an unknown sample of the RPO is not null")
	}
	vault, err := c.Vault(ctx)
	if err != nil || vault.Points != 3412 {
		t.Errorf("vault: %+v, %v", vault, err)
	}
	discovered, err := c.Discovered(ctx, true)
	if err != nil || len(discovered) != 2 || !discovered[0].About.Emulated {
		t.Errorf("discovered: %d, %v", len(discovered), err)
	}
	if sites, err := c.Sites(ctx); err != nil || len(sites) != 2 {
		t.Errorf("sites: %v, %v", sites, err)
	}
	if policies, err := c.Policies(ctx); err != nil || len(policies) != 2 {
		t.Errorf("policies: %v, %v", policies, err)
	}
}

func TestTheClientDoesEveryVerb(t *testing.T) {
	h := newHouse(t, true).claimed()
	c, ctx := h.client(store.Administrator), t.Context()
	started, err := c.Ask(ctx, "m-4f7c21aa", lifecycle.TestFailover, api.VerbBody{Point: "app", Notes: "drill"})
	if err != nil || started.Job == "" {
		t.Fatalf("test failover: %+v, %v", started, err)
	}
	if asked := h.appliance.asked[0]; asked.Actor != "token program" || asked.Point != "app" || asked.Verb != lifecycle.TestFailover {
		t.Errorf("the appliance was asked %+v", asked)
	}
	job, err := c.Job(ctx, started.Job)
	if err != nil || job.Machine != "m-4f7c21aa" {
		t.Errorf("job: %+v, %v", job, err)
	}
	if err := c.CancelJob(ctx, started.Job); err != nil {
		t.Error(err)
	}
	if err := c.RestartJob(ctx, "20261123T070000.000Z-0000003"); err != nil {
		t.Error(err)
	}
	if err := c.AnswerJob(ctx, "20261123T080100.000Z-0000002", "yes"); err != nil {
		t.Error(err)
	}
	if paused, err := c.Ask(ctx, "m-a2b3c4d5", lifecycle.Pause, api.VerbBody{}); err != nil || paused.Job != "" {
		t.Errorf("pause: %+v, %v", paused, err)
	}
	protected, err := c.Protect(ctx, api.ProtectBody{Site: "Milano", Ref: "r-9", Target: "Roma", Policy: "default"})
	if err != nil || protected.Machine == "" || protected.Job == "" {
		t.Errorf("protect: %+v, %v", protected, err)
	}
	p := replication.DefaultPolicy()
	p.Name = "silver"
	if err := c.SavePolicy(ctx, p); err != nil {
		t.Error(err)
	}
	if got, err := c.Policy(ctx, "silver"); err != nil || got.CopyFrequency != p.CopyFrequency || got.Retention.String() != p.Retention.String() {
		t.Errorf("policy: %+v, %v", got, err)
	}
	if err := c.AddSite(ctx, api.SiteBody{Name: "Torino", Kind: "lab", Address: "/srv/lab/torino"}); err != nil {
		t.Error(err)
	}
	if err := c.RemoveSite(ctx, "Torino"); err != nil {
		t.Error(err)
	}
	token, err := c.CreateToken(ctx, api.TokenBody{Name: "other", Role: store.Viewer, Hours: 1})
	if err != nil || !strings.HasPrefix(token.Secret, "riparo_"+token.ID+"_") || token.Expires.IsZero() {
		t.Errorf("token: %+v, %v", token, err)
	}
	if err := c.RevokeToken(ctx, token.ID); err != nil {
		t.Error(err)
	}
	tokens, err := c.Tokens(ctx)
	if err != nil || len(tokens) != 1 || tokens[0].LastUsed.IsZero() {
		t.Errorf("tokens: %+v, %v", tokens, err)
	}
}

func TestListsArePages(t *testing.T) {
	h := newHouse(t, true).claimed()
	c, ctx := h.client(store.Viewer), t.Context()
	var all []string
	before := ""
	for {
		page, err := c.Events(ctx, api.EventFilter{Before: before, Limit: 7})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			all = append(all, e.ID)
		}
		if len(page) < 7 {
			break
		}
		before = page[len(page)-1].ID
	}
	whole, err := c.Events(ctx, api.EventFilter{Limit: 1000})
	if err != nil || len(whole) != len(all) || !slices.IsSortedFunc(all, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("%d events by pages, %d at once, %v", len(all), len(whole), err)
	}
	critical, err := c.Events(ctx, api.EventFilter{Severity: "critical", Machine: "m-c0ffee00"})
	if err != nil || len(critical) != 1 {
		t.Errorf("critical events of a machine: %d, %v", len(critical), err)
	}
	for filter, want := range map[string]int{"": 4, "unfinished": 2, "failed": 1, "waiting for input": 1} {
		if jobs, err := c.Jobs(ctx, api.JobFilter{State: filter}); err != nil || len(jobs) != want {
			t.Errorf("jobs %q: got %d, %v, want %d", filter, len(jobs), err, want)
		}
	}
	if jobs, err := c.Jobs(ctx, api.JobFilter{Machine: "m-4f7c21aa", State: "failed"}); err != nil || len(jobs) != 0 {
		t.Errorf("failed jobs of web01: %d, %v", len(jobs), err)
	}
}

// TestErrorsComeAcrossAsProblems tells what goes wrong as the daemon told it.
func TestErrorsComeAcrossAsProblems(t *testing.T) {
	h := newHouse(t, true).claimed()
	c, ctx := h.client(store.Administrator), t.Context()
	_, err := c.Ask(ctx, "m-4f7c21aa", lifecycle.PlannedFailover, api.VerbBody{Confirm: "web02"})
	if p := problemOf(t, err); p.Code != "confirm.wrong" || p.Effect != "nothing was done" || p.Action != "type web01" || p.Remedy != replication.Stop {
		t.Errorf("a wrong confirmation: %+v", p)
	}
	_, err = c.Machine(ctx, "m-none")
	if p := problemOf(t, err); !errors.Is(err, store.ErrNotFound) || p.Action == "" {
		t.Errorf("an unknown machine: %+v", p)
	}
	_, err = c.Ask(ctx, "m-4f7c21aa", "no-such-verb", api.VerbBody{})
	if p := problemOf(t, err); p.Code != "api.unknown" {
		t.Errorf("an unknown verb: %+v", p)
	}
	_, err = c.Protect(ctx, api.ProtectBody{Site: "Milano"})
	if p := problemOf(t, err); p.Code != "request.invalid" || !strings.Contains(p.Cause, "body.ref") {
		t.Errorf("an empty reference: %+v", p)
	}
	p := replication.DefaultPolicy()
	p.CopyFrequency = time.Second
	if p := problemOf(t, c.SavePolicy(ctx, p)); p.Code != "policy.invalid" || !strings.Contains(p.Cause, "the shortest is 5s") {
		t.Errorf("a policy that cannot be: %+v", p)
	}
	_, err = h.client(store.Viewer).Ask(ctx, "m-4f7c21aa", lifecycle.TestFailover, api.VerbBody{})
	if p := problemOf(t, err); p.Code != "access.denied" {
		t.Errorf("a viewer's verb: %+v", p)
	}
	if problemOf(t, c.AddSite(ctx, api.SiteBody{Name: "x", Kind: "lab", Address: "nowhere"})).Code != "site.unreachable" {
		t.Error("a site that is not there")
	}
}

func TestTheClientTrustsOnlyWhomItWasTold(t *testing.T) {
	h := newHouse(t, true).claimed()
	ctx := t.Context()
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw}))
	secret, _, err := h.identity.CreateToken(user, "program", store.Viewer, 0)
	if err != nil {
		t.Fatal(err)
	}
	spaced := strings.ToUpper(strings.Join(slices.Collect(slices.Values(strings.Split(h.fingerprint(), ""))), ""))
	for name, row := range map[string]struct {
		trust, want string
	}{"its certificate": {certificate, ""}, "its fingerprint": {spaced, ""}, "nothing": {"", "client.trust"}, "another fingerprint": {strings.Repeat("ab", 32), "client.trust"}} {
		c, err := api.New(h.server.URL, secret, row.trust)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.About(ctx)
		got := ""
		if err != nil {
			got = problemOf(t, err).Code
		}
		if got != row.want {
			t.Errorf("trusting %s: got %q (%v), want %q", name, got, err, row.want)
		}
		c.Close()
	}
	for _, trust := range []string{"zz", "-----BEGIN nothing"} {
		if _, err := api.New(h.server.URL, "", trust); err == nil || problemOf(t, err).Code != "client.trust" {
			t.Errorf("trust %q: got %v", trust, err)
		}
	}
	if _, err := api.New("http://127.0.0.1:1", "", ""); err == nil || problemOf(t, err).Code != "client.url" {
		t.Errorf("an address without TLS: got %v", err)
	}
	c, err := api.New("https://127.0.0.1:1", "", strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.About(ctx); problemOf(t, err).Code != "client.unreachable" {
		t.Errorf("nobody there: got %v", err)
	}
}

func TestTheStreamTellsEventsAndChanges(t *testing.T) {
	h := newHouse(t, true).claimed()
	c := h.client(store.Viewer)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var event *store.Event
	changed := map[string]bool{}
	err := c.Follow(ctx, "", func(n api.News) error {
		switch {
		case n.Beat != nil && event == nil: // it listens
			if err := h.store.Update(func(tx *store.Tx) error {
				if err := tx.AddEvent(store.Event{Severity: "info", Code: "told", Text: "hello"}); err != nil {
					return err
				}
				m, err := tx.Machines().Get("m-4f7c21aa")
				if err != nil {
					return err
				}
				return tx.Machines().Put(m)
			}); err != nil {
				return err
			}
		case n.Event != nil:
			event = n.Event
		case n.Change != nil:
			for _, name := range n.Change.Names {
				changed[name] = true
			}
		}
		if event != nil && changed["machine/m-4f7c21aa"] {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || event == nil || event.Text != "hello" {
		t.Errorf("the stream told %v, %v and ended with %v", event, changed, err)
	}
}

func TestAnApplianceIsClaimedThroughTheAPI(t *testing.T) {
	h := newHouse(t, false)
	c, err := api.New(h.server.URL, "", h.fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Setup(t.Context(), api.SetupBody{SetupToken: "wrong", Name: user, Password: password}); problemOf(t, err).Code != "setup.token" {
		t.Errorf("a wrong setup token: got %v", err)
	}
	claimed, err := c.Setup(t.Context(), api.SetupBody{SetupToken: h.token, Name: user, Password: password, Language: "it", TokenName: "cli"})
	if err != nil || claimed.Token == nil {
		t.Fatalf("the claim: %+v, %v", claimed, err)
	}
	again, err := api.New(h.server.URL, claimed.Token.Secret, h.fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if about, err := again.About(t.Context()); err != nil || about.Role != store.Administrator {
		t.Errorf("the token of the claim: %+v, %v", about, err)
	}
}

func TestTheDescriptionNamesEveryCall(t *testing.T) {
	h := newHouse(t, true)
	got := h.browser().get("/api/openapi.json")
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
		Parts   struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil || got.status != http.StatusOK {
		t.Fatalf("the description: %d, %v", got.status, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %q: want 3.1", doc.OpenAPI)
	}
	for _, pattern := range h.console.Patterns() {
		method, path, _ := strings.Cut(pattern, " ")
		if !strings.HasPrefix(path, "/api/v1/") {
			continue
		}
		call, ok := doc.Paths[path][strings.ToLower(method)]
		if !ok {
			t.Errorf("%s is not described", pattern)
		}
		for _, want := range []string{`"operationId"`, `"summary"`} {
			if !strings.Contains(string(call), want) {
				t.Errorf("%s has no %s", pattern, want)
			}
		}
		if path != "/api/v1/events" && !strings.Contains(string(call), "application/problem+json") {
			t.Errorf("%s does not say that it answers with problems", pattern)
		}
	}
	if len(doc.Parts.Schemas) < 20 {
		t.Errorf("%d schemas: want those of all answers", len(doc.Parts.Schemas))
	}
	// Every reference leads somewhere.
	for rest := got.body; ; {
		i := strings.Index(rest, `"$ref":"#/components/schemas/`)
		if i < 0 {
			break
		}
		rest = rest[i+len(`"$ref":"#/components/schemas/`):]
		name, _, _ := strings.Cut(rest, `"`)
		if _, ok := doc.Parts.Schemas[name]; !ok {
			t.Errorf("the description refers to %s, which it does not have", name)
		}
	}
}

func TestTheAPIAnswersInProblemJSON(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.browser()
	for _, path := range []string{"/api/v1/machines", "/api/v1/nothing", "/api/"} {
		got := b.get(path)
		var p api.Problem
		if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != 401 || p.Status != 401 || p.Code == "" || p.Action == "" || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("GET %s: %d %s %s", path, got.status, got.header.Get("Content-Type"), got.body)
		}
	}
	signedIn := h.signedIn("")
	if got := signedIn.do("DELETE", "/api/v1/machines", nil, ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") == "" {
		t.Errorf("a method that is not there: %d, Allow %q", got.status, got.header.Get("Allow"))
	}
	if got := signedIn.do("POST", "/api/v1/machines", strings.NewReader("not json"), "application/json"); got.status != http.StatusBadRequest {
		t.Errorf("a body that is no JSON: %d", got.status)
	}
	if got := signedIn.get("/api/v1/machines"); got.status != http.StatusOK {
		t.Errorf("the API by session: got %d, want 200", got.status)
	}
}
