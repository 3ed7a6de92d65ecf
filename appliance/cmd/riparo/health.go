package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"riparo/store"
	"riparo/web/api"
)

// trouble is a finding and what it is about.
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
		Short:   "Show what needs attention: machines, sites, the vault and its clock",
		Long: `Show what needs attention, each with its cause, its effect and its remedy: findings of
machines, sites that cannot be reached, and the vault whose trusted time the clock has
left behind. The exit status is 1 when there is anything.`,
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
			return to.reach(func(client *api.Client) error { return client.ConfirmClock(c.Context()) })
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
	return h, err
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
