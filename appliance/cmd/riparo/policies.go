package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

func newPolicies(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			policies, err := client.Policies(c.Context())
			if err != nil {
				return err
			}
			return t.result(map[string]any{"policies": policies}, func(w io.Writer) { printPolicies(w, policies) })
		})
	}
	c := &cobra.Command{
		Use:     "policies [list | show POLICY | save POLICY …]",
		GroupID: groupAround,
		Short:   "List replication policies, show one, make or change one",
		RunE:    list,
	}
	to.add(c)
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the replication policies", Args: arguments(), RunE: list},
		&cobra.Command{
			Use:   "show POLICY",
			Short: "Show one replication policy",
			Args:  arguments("POLICY"),
			RunE: func(c *cobra.Command, args []string) error {
				return to.reach(func(client *api.Client) error {
					policies, err := client.Policies(c.Context())
					if err != nil {
						return err
					}
					name := func(p replication.Policy) string { return p.Name }
					p, err := named("policy", args[0], policies, name, name, name)
					if err != nil {
						return err
					}
					return t.result(p, func(w io.Writer) { printPolicy(w, p) })
				})
			},
		},
		newSavePolicy(t, &to),
	)
	return c
}

func printPolicies(w io.Writer, policies []replication.Policy) {
	var rows []table.Row
	for _, p := range policies {
		rows = append(rows, table.Row{p.Name, p.CopyFrequency, orOff(p.AppConsistentFrequency), orOff(p.RPOThreshold), p.Retention, orOff(p.LockFor), rateOf(p)})
	}
	tabulate(w, table.Row{"policy", "copy every", "app-consistent every", "RPO threshold", "keep", "locked for", "bandwidth"}, rows)
}

func printPolicy(w io.Writer, p replication.Policy) {
	printFields(w, []table.Row{
		{"policy", p.Name}, {"copy every", p.CopyFrequency}, {"app-consistent every", orOff(p.AppConsistentFrequency)},
		{"freeze limit", p.FreezeLimit}, {"RPO threshold", orOff(p.RPOThreshold)}, {"keep", p.Retention}, {"locked for", orOff(p.LockFor)}, {"bandwidth", rateOf(p)},
	})
}

func orOff(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return d.String()
}

func rateOf(p replication.Policy) string {
	if p.BytesPerSecond == 0 {
		return "no limit"
	}
	return sizeOf(p.BytesPerSecond) + "/s"
}

// policyToChange is a policy as it is, or a new one, which begins as the policy that
// Riparo comes with.
func policyToChange(ctx context.Context, client *api.Client, name string) (replication.Policy, error) {
	p, err := client.Policy(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		p, err = replication.DefaultPolicy(), nil
		p.Name = name
	}
	return p, err
}

func newSavePolicy(t *terminal, to *connection) *cobra.Command {
	var wanted replication.Policy
	var keep, lock, bandwidth string
	c := &cobra.Command{
		Use:   "save POLICY [--copy-every TIME] [--app-every TIME] [--freeze-limit TIME] [--rpo-threshold TIME] [--keep RULES] [--lock-for TIME] [--bandwidth SIZE]",
		Short: "Make or change a replication policy",
		Long: `Make or change a replication policy. What no flag says stays as it is; of a new policy it is
as in the policy "` + replication.DefaultPolicy().Name + `" that Riparo comes with. Times are as in 30s, 15m or 1h.
A point that is locked can be deleted by nobody before its time, not even by an administrator;
what --lock-for says holds for points made from now on, and no lock is ever shortened.
It applies at once to the machines that have it.`,
		Args: arguments("POLICY"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			given := c.Flags().Changed
			if given("keep") {
				if wanted.Retention, err = replication.ParseRetention(keep); err != nil {
					return usagef(c, "--keep: %w", err)
				}
			}
			if wanted.LockFor, err = replication.ParseDuration(lock); err != nil {
				return usagef(c, "--lock-for: %w", err)
			}
			if wanted.BytesPerSecond, err = parseSize(bandwidth); err != nil {
				return usagef(c, "--bandwidth: %w", err)
			}
			return to.reach(func(client *api.Client) error {
				p, err := policyToChange(c.Context(), client, args[0])
				if err != nil {
					return err
				}
				for flag, change := range map[string]func(){
					"copy-every":    func() { p.CopyFrequency = wanted.CopyFrequency },
					"app-every":     func() { p.AppConsistentFrequency = wanted.AppConsistentFrequency },
					"freeze-limit":  func() { p.FreezeLimit = wanted.FreezeLimit },
					"rpo-threshold": func() { p.RPOThreshold = wanted.RPOThreshold },
					"keep":          func() { p.Retention = wanted.Retention },
					"lock-for":      func() { p.LockFor = wanted.LockFor },
					"bandwidth":     func() { p.BytesPerSecond = wanted.BytesPerSecond },
				} {
					if given(flag) {
						change()
					}
				}
				if err := client.SavePolicy(c.Context(), p); err != nil {
					return err
				}
				return t.result(p, func(w io.Writer) {
					fmt.Fprintf(w, "policy %s is saved\n", p.Name)
					printPolicy(w, p)
				})
			})
		},
	}
	c.Flags().DurationVar(&wanted.CopyFrequency, "copy-every", 0, "time between two recovery points, at least "+replication.MinCopyFrequency.String())
	c.Flags().DurationVar(&wanted.AppConsistentFrequency, "app-every", 0, "time between two application-consistent points; 0 switches them off")
	c.Flags().DurationVar(&wanted.FreezeLimit, "freeze-limit", 0, "the longest that a guest may stand still for one of them")
	c.Flags().DurationVar(&wanted.RPOThreshold, "rpo-threshold", 0, "age of the newest point that raises an event; 0: none does")
	c.Flags().StringVar(&keep, "keep", "", "which points are kept, AGE:INTERVAL, as in 1h:all,24h:5m,15d:1h")
	c.Flags().StringVar(&lock, "lock-for", "0", "how long nobody can delete a point, from when it was made, as in 12h or 30d; 0: no lock")
	c.Flags().StringVar(&bandwidth, "bandwidth", "0", "the most that one machine sends in a second; 0: no limit")
	return c
}
