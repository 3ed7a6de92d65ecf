package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/web/api"
)

func newPoints(t *terminal) *cobra.Command {
	var to connection
	c := &cobra.Command{
		Use:     "points MACHINE | pin MACHINE POINT | unpin MACHINE POINT | delete MACHINE POINT",
		GroupID: groupMachines,
		Short:   "List the recovery points of a machine, the newest first",
		Args:    arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				m, err := machineNamed(c.Context(), client, args[0])
				if err != nil {
					return err
				}
				points, err := client.Points(c.Context(), m.ID)
				if err != nil {
					return err
				}
				found := map[string]any{"machine": m.ID, "name": m.Name, "points": points}
				return t.result(found, func(w io.Writer) { printMachinePoints(w, m, points) })
			})
		},
	}
	to.add(c)
	addPointVerbs(t, &to, c)
	return c
}

func printMachinePoints(w io.Writer, m api.Machine, points []replication.RecoveryPoint) {
	if len(points) == 0 {
		fmt.Fprintf(w, "%s has no recovery point yet: it is in state “%s”.\n", m.Name, m.State)
		return
	}
	var rows []table.Row
	for _, p := range points {
		rows = append(rows, table.Row{p.ID, clock(p.Time), p.Consistency, sizeOf(p.ChangedBytes), sizeOf(p.StoredBytes), signsOf(p), p.Tag})
	}
	tabulate(w, table.Row{"point", "time", "consistency", "changed", "stored", "known", "tag"}, rows)
}

// signsOf says what is known for and against a point.
func signsOf(p replication.RecoveryPoint) string {
	var signs []string
	places := fmt.Sprintf("damaged in %d places", len(p.Damage))
	if len(p.Damage) >= replication.MaxDamage { // there may be more
		places = "damaged in many places"
	}
	for _, s := range []struct {
		on   bool
		word string
	}{{len(p.Damage) > 0, places}, {p.Suspect, "suspect"}, {p.LastClean, "last clean"}, {p.Pinned, "pinned"}, {p.Locked, "locked until " + clock(p.LockedUntil)}} {
		if s.on {
			signs = append(signs, s.word)
		}
	}
	return strings.Join(signs, ", ")
}

// pointFlag is the flag that chooses a recovery point.
type pointFlag struct{ word string }

func (p *pointFlag) add(c *cobra.Command) {
	c.Flags().StringVar(&p.word, "point", "", `recovery point: an ID, "latest", "app" for the latest application-consistent one, "clean" for the latest before an alarm (default: latest)`)
}

// id is the point as the API takes it.
func (p *pointFlag) id() replication.PointID {
	if p.word == "latest" {
		return ""
	}
	return replication.PointID(p.word)
}
