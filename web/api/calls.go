package api

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// About says what answers, and as whom.
func (c *Client) About(ctx context.Context) (About, error) {
	return get[About](ctx, c, "/api/v1/about", nil)
}

// Setup claims a fresh appliance.
func (c *Client) Setup(ctx context.Context, b SetupBody) (Claimed, error) {
	var out Claimed
	err := c.call(ctx, http.MethodPost, "/api/v1/setup", nil, b, &out)
	return out, err
}

// Machines lists all protected machines by name, page after page. One that is taken
// under protection meanwhile may be missing.
func (c *Client) Machines(ctx context.Context) ([]Machine, error) {
	all := []Machine{}
	for after := ""; ; {
		page, err := c.MachinePage(ctx, after, pageSize)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pageSize {
			break
		}
		after = string(page[len(page)-1].ID)
	}
	slices.SortFunc(all, func(x, y Machine) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return all, nil
}

// pageSize is how many machines the client asks for at a time: their figures of an hour
// are a megabyte or two.
const pageSize = 500

// MachinePage gives up to limit protected machines after the one of an ID, by ID. Fewer
// than limit are the last ones.
func (c *Client) MachinePage(ctx context.Context, after string, limit int) ([]Machine, error) {
	return get[[]Machine](ctx, c, "/api/v1/machines", queryOf("after", after, "limit", number(limit)))
}

// Machine gives one protected machine.
func (c *Client) Machine(ctx context.Context, id replication.MachineID) (Machine, error) {
	return get[Machine](ctx, c, "/api/v1/machines/"+segment(string(id)), nil)
}

// Points lists the recovery points of a machine, newest first.
func (c *Client) Points(ctx context.Context, id replication.MachineID) ([]replication.RecoveryPoint, error) {
	return get[[]replication.RecoveryPoint](ctx, c, "/api/v1/machines/"+segment(string(id))+"/points", nil)
}

// Protect takes a discovered machine under protection.
func (c *Client) Protect(ctx context.Context, b ProtectBody) (Started, error) {
	var out Started
	err := c.call(ctx, http.MethodPost, "/api/v1/machines", nil, b, &out)
	return out, err
}

// Seeds lists the images that disks can be filled from.
func (c *Client) Seeds(ctx context.Context) (Seeds, error) {
	return get[Seeds](ctx, c, "/api/v1/seeds", nil)
}

// Ask starts a verb on a protected machine.
func (c *Client) Ask(ctx context.Context, id replication.MachineID, verb lifecycle.Verb, b VerbBody) (Started, error) {
	var out Started
	err := c.call(ctx, http.MethodPost, "/api/v1/machines/"+segment(string(id))+"/"+segment(string(verb)), nil, b, &out)
	return out, err
}

// JobFilter chooses jobs; the zero value chooses the newest 100.
type JobFilter struct {
	State   string // one of store.JobState, or "unfinished"
	Machine replication.MachineID
	Before  string
	Limit   int
}

// Jobs lists jobs, newest first.
func (c *Client) Jobs(ctx context.Context, f JobFilter) ([]store.Job, error) {
	return get[[]store.Job](ctx, c, "/api/v1/jobs", queryOf("state", f.State, "machine", string(f.Machine), "before", f.Before, "limit", number(f.Limit)))
}

// Job gives one job.
func (c *Client) Job(ctx context.Context, id string) (store.Job, error) {
	return get[store.Job](ctx, c, "/api/v1/jobs/"+segment(id), nil)
}

// CancelJob cancels a job.
func (c *Client) CancelJob(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/jobs/"+segment(id)+"/cancel", nil, nil, nil)
}

// RestartJob goes on with a failed job.
func (c *Client) RestartJob(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/jobs/"+segment(id)+"/restart", nil, nil, nil)
}

// AnswerJob answers what a job asks.
func (c *Client) AnswerJob(ctx context.Context, id, answer string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/jobs/"+segment(id)+"/answer", nil, map[string]string{"answer": answer}, nil)
}

// EventFilter chooses events; the zero value chooses the newest 100.
type EventFilter struct {
	Severity string
	Machine  replication.MachineID
	Before   string
	Limit    int
}

// Events lists the event log, newest first.
func (c *Client) Events(ctx context.Context, f EventFilter) ([]store.Event, error) {
	return get[[]store.Event](ctx, c, "/api/v1/event-log", queryOf("severity", f.Severity, "machine", string(f.Machine), "before", f.Before, "limit", number(f.Limit)))
}

// Policies lists the replication policies.
func (c *Client) Policies(ctx context.Context) ([]replication.Policy, error) {
	return get[[]replication.Policy](ctx, c, "/api/v1/policies", nil)
}

// Policy gives one replication policy.
func (c *Client) Policy(ctx context.Context, name string) (replication.Policy, error) {
	return get[replication.Policy](ctx, c, "/api/v1/policies/"+segment(name), nil)
}

// SavePolicy makes or changes a replication policy.
func (c *Client) SavePolicy(ctx context.Context, p replication.Policy) error {
	return c.call(ctx, http.MethodPut, "/api/v1/policies/"+segment(p.Name), nil, p, nil)
}

// Sites lists the sites.
func (c *Client) Sites(ctx context.Context) ([]store.Site, error) {
	return get[[]store.Site](ctx, c, "/api/v1/sites", nil)
}

// AddSite adds a site; it is contacted first.
func (c *Client) AddSite(ctx context.Context, b SiteBody) error {
	return c.call(ctx, http.MethodPost, "/api/v1/sites", nil, b, nil)
}

// RemoveSite removes a site that nothing uses.
func (c *Client) RemoveSite(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/sites/"+segment(name), nil, nil, nil)
}

// SitePeer tells who answers at the address of a site.
func (c *Client) SitePeer(ctx context.Context, name string) (Peer, error) {
	return get[Peer](ctx, c, "/api/v1/sites/"+segment(name)+"/peer", nil)
}

// TrustSite confirms who answers there now.
func (c *Client) TrustSite(ctx context.Context, name, fingerprint string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/sites/"+segment(name)+"/trust", nil, TrustBody{fingerprint}, nil)
}

// Discovered lists the machines of all sites; refresh asks the sites now.
func (c *Client) Discovered(ctx context.Context, refresh bool) ([]Discovered, error) {
	if !refresh {
		return get[[]Discovered](ctx, c, "/api/v1/discovered", nil)
	}
	var out []Discovered
	err := c.call(ctx, http.MethodPost, "/api/v1/discovered/refresh", nil, nil, &out)
	return out, err
}

// Vault says how full the vault is.
func (c *Client) Vault(ctx context.Context) (VaultUsage, error) {
	return get[VaultUsage](ctx, c, "/api/v1/vault", nil)
}

// Report gives the figures of replication, those of the machines page after page. The
// figures of the whole are those of the last page.
func (c *Client) Report(ctx context.Context) (Figures, error) {
	all := map[replication.MachineID]MachineFigures{}
	for after := ""; ; {
		page, err := c.ReportPage(ctx, after, pageSize)
		if err != nil {
			return page, err
		}
		maps.Copy(all, page.Machines)
		if len(page.Machines) < pageSize {
			page.Machines = all
			return page, nil
		}
		after = string(slices.Max(slices.Collect(maps.Keys(page.Machines))))
	}
}

// ReportPage gives the figures of replication with those of up to limit machines after
// the one of an ID, by ID. Fewer than limit are the last ones.
func (c *Client) ReportPage(ctx context.Context, after string, limit int) (Figures, error) {
	return get[Figures](ctx, c, "/api/v1/report", queryOf("after", after, "limit", number(limit)))
}

// Tokens lists the API tokens.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	return get[[]Token](ctx, c, "/api/v1/tokens", nil)
}

// CreateToken makes an API token.
func (c *Client) CreateToken(ctx context.Context, b TokenBody) (NewToken, error) {
	var out NewToken
	err := c.call(ctx, http.MethodPost, "/api/v1/tokens", nil, b, &out)
	return out, err
}

// RevokeToken ends an API token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/tokens/"+segment(id), nil, nil, nil)
}
