package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/web/api"
)

func newMachines(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			machines, err := client.Machines(c.Context())
			if err != nil {
				return err
			}
			return t.result(map[string]any{"machines": machines}, func(w io.Writer) { printMachines(w, machines) })
		})
	}
	c := &cobra.Command{
		Use:     "machines [list | show MACHINE]",
		GroupID: groupMachines,
		Short:   "List the protected machines, or show one",
		RunE:    list,
	}
	to.add(c)
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the protected machines", Args: arguments(), RunE: list},
		&cobra.Command{
			Use:   "show MACHINE",
			Short: "Show one machine: state, health, disks, what can be done now",
			Long:  "Show one machine, named by its name or ID: state, health, disks, and what can be\ndone with it now.",
			Args:  arguments("MACHINE"),
			RunE: func(c *cobra.Command, args []string) error {
				return to.reach(func(client *api.Client) error { return t.showMachine(c.Context(), client, args[0]) })
			},
		},
	)
	return c
}

func printMachines(w io.Writer, machines []api.Machine) {
	if len(machines) == 0 {
		fmt.Fprintln(w, "No machine is protected yet. `riparo sites discover` lists those that can be, `riparo protect` protects one.")
		return
	}
	var rows []table.Row
	for _, m := range machines {
		rows = append(rows, table.Row{m.Name, m.ID, m.Health.Level, stateOf(m), rpoOf(m), routeOf(m), m.Policy, m.Now.Text})
	}
	tabulate(w, table.Row{"machine", "id", "health", "state", "RPO", "from → to", "policy", "now"}, rows)
}

func (t *terminal) showMachine(ctx context.Context, client *api.Client, word string) error {
	m, err := machineNamed(ctx, client, word)
	if err != nil {
		return err
	}
	return t.result(m, func(w io.Writer) {
		rows := []table.Row{
			{"machine", m.Name}, {"id", m.ID},
			{"state", fmt.Sprintf("%s since %s", stateOf(m), clock(m.Since))},
			{"health", m.Health.Level},
			{"from → to", routeOf(m)},
			{"policy", m.Policy}, {"RPO", rpoOf(m)},
			{"newest point", pointOf(m.LastPoint)}, {"newest app-consistent", pointOf(m.LastApp)},
			{"now", orDash(m.Now.Text)},
		}
		if f := m.Failover; f != nil {
			rows = append(rows, table.Row{"failover", fmt.Sprintf("%s, to %s, begun %s", f.Kind, orDash(string(f.Point)), clock(f.Started))})
		}
		if m.Test != nil {
			rows = append(rows, table.Row{"test failover", fmt.Sprintf("%s, begun %s", m.Test.Point, clock(m.Test.Started))})
		}
		for _, d := range m.Disks {
			note := ""
			if d.Excluded {
				note = ", excluded"
			}
			rows = append(rows, table.Row{"disk " + d.Key, sizeOf(d.Size) + note})
		}
		rows = append(rows, table.Row{"can be done now", strings.Join(words(m.Allowed), ", ")})
		printFields(w, rows)
		for _, f := range m.Health.Findings {
			fmt.Fprintf(w, "\n%s: %s\n", f.Level, f.Cause)
			if f.Effect != "" {
				fmt.Fprintf(w, "  effect: %s\n", f.Effect)
			}
			if f.Action != "" {
				fmt.Fprintf(w, "  remedy: %s\n", f.Action)
			}
		}
	})
}

// stateOf is where a machine stands, with what stands beside it.
func stateOf(m api.Machine) string {
	text := string(m.State)
	if m.Paused {
		text += ", paused"
	}
	if m.Drill != "" {
		text += ", " + string(m.Drill)
	}
	return text
}

// routeOf is where the machine runs and where it is replicated to.
func routeOf(m api.Machine) string {
	if m.Direction == "reverse" {
		return m.Target.Site + " → " + m.Source.Site
	}
	return m.Source.Site + " → " + m.Target.Site
}

func rpoOf(m api.Machine) string {
	if m.RPOSeconds == nil {
		return "-"
	}
	return ageOf(time.Duration(*m.RPOSeconds * float64(time.Second)))
}

func pointOf(p *replication.RecoveryPoint) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%s (%s, %s)", p.ID, p.Consistency, clock(p.Time))
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
