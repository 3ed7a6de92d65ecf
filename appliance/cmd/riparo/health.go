package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"riparo/appliance/notify"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// trouble is a finding and what it is about: a machine, a site, the vault or the appliance.
type trouble struct {
	About string `json:"about"`
	store.Finding
}

// health is what the appliance finds wrong, and nothing when all is well.
type health struct {
	Machines int       `json:"machines"`
	Sites    int       `json:"sites"`
	Findings []trouble `json:"findings"`
}

func newHealth(t *terminal) *cobra.Command {
	var to connection
	c := &cobra.Command{
		Use:     "health",
		GroupID: groupAround,
		Short:   "Show what needs attention: machines, sites, the vault and its clock, and alerts",
		Long: `Show what needs attention, each with its cause, its effect and its remedy: findings of
machines, sites that cannot be reached, the vault whose trusted time the clock has left
behind, and what else is an alert: a vault that is nearly full, jobs that failed, backups
that are not made, a certificate that ends. Alerts that are turned off under Settings,
Notifications are none. The exit status is 1 when there is anything.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				h, err := healthOf(c.Context(), client)
				if err != nil {
					return err
				}
				if err := t.result(h, func(w io.Writer) { printHealth(w, h) }); err != nil || len(h.Findings) == 0 {
					return err
				}
				return &saidError{fmt.Sprintf("%d findings need attention", len(h.Findings))}
			})
		},
	}
	to.add(c)
	c.AddCommand(&cobra.Command{
		Use:   "confirm-clock",
		Short: "Ask for the clock to be taken as the time by which locks end; takes four eyes while points are locked",
		Long: `Ask for the clock to be taken as the time by which locks of recovery points end and
retention counts their age. It is taken as it is when that is approved, unless it is more
than an hour further ahead by then. It is right when the vault
was really closed for so long, and wrong when somebody has set the clock forward. While
points are locked, a second administrator approves it.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				if err := client.ConfirmClock(c.Context()); err != nil {
					return err
				}
				return t.result(map[string]any{"confirmed": true}, func(w io.Writer) { fmt.Fprintln(w, "The clock is the time that the vault trusts from now on.") })
			})
		},
	})
	return c
}

func healthOf(ctx context.Context, client *api.Client) (health, error) {
	h := health{Findings: []trouble{}}
	vault, err := client.Vault(ctx)
	if err != nil {
		return h, err
	}
	if vault.Clock != nil {
		h.Findings = append(h.Findings, trouble{"vault", *vault.Clock})
	}
	machines, err := client.Machines(ctx)
	if err != nil {
		return h, err
	}
	h.Machines = len(machines)
	for _, m := range machines {
		for _, f := range m.Health.Findings {
			h.Findings = append(h.Findings, trouble{m.Name, f})
		}
	}
	sites, err := knownSites(ctx, client)
	h.Sites = len(sites)
	for _, s := range sites {
		if s.Problem != nil {
			h.Findings = append(h.Findings, trouble{"site " + s.Name, *s.Problem})
		}
	}
	if err != nil {
		return h, err
	}
	alerts, err := client.Alerts(ctx, true)
	if err != nil {
		return h, err
	}
	more, err := alertsBeside(h.Findings, alerts)
	h.Findings = append(h.Findings, more...)
	return h, err
}

// alertsBeside are the alerts that tell of nothing that was found already: those of the
// health of a machine, of a site and of the clock come from the same findings.
func alertsBeside(found []trouble, alerts []store.Alert) ([]trouble, error) {
	catalog, err := view.Load()
	if err != nil {
		return nil, err
	}
	w := catalog.Words("en", time.Local)
	var more []trouble
	for _, a := range alerts {
		about := "appliance"
		switch {
		case a.Machine != "":
			about = cmp.Or(a.Name, a.Machine)
		case a.Kind == notify.SiteAway:
			about = "site " + a.Name
		case a.Kind == notify.ClockAhead, a.Kind == notify.VaultFull:
			about = "vault"
		}
		if slices.ContainsFunc(found, func(f trouble) bool {
			return f.About == about && (f.Code == a.Kind || a.Kind == notify.SiteAway || a.Kind == notify.HealthCritical && f.Level == string(store.Critical))
		}) {
			continue
		}
		told := view.NewAlertItem(w, store.AlertRaised, a.Kind, a.Severity, a.Name, a.Args, "", "", "", a.Since, a.Ended)
		cause := strings.TrimPrefix(told.Title, a.Name+": ")
		if a.Cause != "" {
			cause += ": " + a.Cause
		}
		more = append(more, trouble{about, store.Finding{Code: a.Kind, Level: a.Severity, Cause: cause, Effect: a.Effect, Action: a.Action, Since: a.Since}})
	}
	return more, nil
}

func printHealth(w io.Writer, h health) {
	if len(h.Findings) == 0 {
		fmt.Fprintf(w, "Nothing needs attention: %d machines, %d sites, and the vault.\n", h.Machines, h.Sites)
		return
	}
	for _, f := range h.Findings {
		fmt.Fprintf(w, "%s: %s\n", f.About, f.Cause)
		if f.Effect != "" {
			fmt.Fprintf(w, "  effect: %s\n", f.Effect)
		}
		if f.Action != "" {
			fmt.Fprintf(w, "  remedy: %s\n", f.Action)
		}
		if !f.Since.IsZero() {
			fmt.Fprintf(w, "  since:  %s\n", clock(f.Since))
		}
	}
}
