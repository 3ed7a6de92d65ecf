package main

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// newPointVerb is a verb on one recovery point of a machine.
func newPointVerb(t *terminal, to *connection, use, short, done string, do func(c *cobra.Command, client *api.Client, m api.Machine, point replication.PointID) error) *cobra.Command {
	return &cobra.Command{
		Use:   use + " MACHINE POINT",
		Short: short,
		Args:  arguments("MACHINE", "POINT"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				m, err := machineNamed(c.Context(), client, args[0])
				if err != nil {
					return err
				}
				if err := do(c, client, m, replication.PointID(args[1])); err != nil {
					return err
				}
				return t.result(map[string]any{"machine": m.ID, "point": args[1], "done": true}, func(w io.Writer) { fmt.Fprintf(w, "Point %s of %s %s.\n", args[1], m.Name, done) })
			})
		},
	}
}

// addPointVerbs are what can be done to a recovery point.
func addPointVerbs(t *terminal, to *connection, points *cobra.Command) {
	var note string
	pin := newPointVerb(t, to, "pin", "Keep a recovery point, whatever the retention says", "is pinned", func(c *cobra.Command, client *api.Client, m api.Machine, point replication.PointID) error {
		return client.Pin(c.Context(), m.ID, point, note)
	})
	pin.Flags().StringVar(&note, "note", "", "why")
	points.AddCommand(pin,
		newPointVerb(t, to, "unpin", "Let a pinned point go by the retention again; takes four eyes", "is not pinned any more", func(c *cobra.Command, client *api.Client, m api.Machine, point replication.PointID) error {
			return client.Unpin(c.Context(), m.ID, point)
		}),
		newPointVerb(t, to, "delete", "Delete a recovery point; takes four eyes when it is protected", "is deleted", func(c *cobra.Command, client *api.Client, m api.Machine, point replication.PointID) error {
			return client.DeletePoints(c.Context(), m.ID, []replication.PointID{point})
		}))
}

func newDismissAlarm(t *terminal) *cobra.Command {
	var to connection
	var note string
	c := &cobra.Command{
		Use:     "dismiss-alarm MACHINE [--note TEXT]",
		GroupID: groupMachines,
		Short:   "Say that a machine which seems to be being encrypted is not",
		Long: `Say that a machine whose disks turn to noise is under no attack, or that it is dealt
with. Its suspect points become ordinary ones, and the last clean one may go by the
retention.`,
		Args: arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				m, err := machineNamed(c.Context(), client, args[0])
				if err != nil {
					return err
				}
				if err := client.DismissAlarm(c.Context(), m.ID, note); err != nil {
					return err
				}
				return t.result(map[string]any{"machine": m.ID, "dismissed": true}, func(w io.Writer) { fmt.Fprintf(w, "The alarm of %s is dismissed.\n", m.Name) })
			})
		},
	}
	to.add(c)
	c.Flags().StringVar(&note, "note", "", "why it is no attack")
	return c
}

func newApprovals(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			all, err := client.Approvals(c.Context())
			if err != nil {
				return err
			}
			return t.result(map[string]any{"approvals": all}, func(w io.Writer) { printApprovals(w, all) })
		})
	}
	decide := func(use, short, done string, do func(*api.Client, *cobra.Command, string) error) *cobra.Command {
		return &cobra.Command{Use: use + " REQUEST", Short: short, Args: arguments("REQUEST"), RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				if err := do(client, c, args[0]); err != nil {
					return err
				}
				return t.result(map[string]any{"request": args[0], "done": true}, func(w io.Writer) { fmt.Fprintf(w, "Request %s is %s.\n", args[0], done) })
			})
		}}
	}
	c := &cobra.Command{
		Use:     "approvals [list | approve REQUEST | refuse REQUEST]",
		GroupID: groupAround,
		Short:   "List what needs a second administrator; approve or refuse it",
		Long: `List what one administrator asked for and another has to approve within 24 hours:
deleting protected points, unpinning one, disabling a protection with pinned points,
erasing what is kept of a machine, shortening a retention in use. Who asked cannot
approve.`,
		RunE: list,
	}
	to.add(c)
	c.AddCommand(&cobra.Command{Use: "list", Short: "List the requests", Args: arguments(), RunE: list},
		decide("approve", "Approve what another administrator asked for", "approved and done", func(client *api.Client, c *cobra.Command, id string) error { return client.Approve(c.Context(), id) }),
		decide("refuse", "Refuse a request, or take an own one back", "refused", func(client *api.Client, c *cobra.Command, id string) error { return client.Refuse(c.Context(), id) }))
	return c
}

func printApprovals(w io.Writer, all []store.Approval) {
	if len(all) == 0 {
		fmt.Fprintln(w, "Nothing waits for a second administrator.")
		return
	}
	var rows []table.Row
	for _, r := range all {
		rows = append(rows, table.Row{r.ID, r.State, r.Text, r.RequestedBy, clock(r.Requested), r.DecidedBy})
	}
	tabulate(w, table.Row{"request", "state", "what", "asked by", "at", "decided by"}, rows)
}

func newScrub(t *terminal) *cobra.Command {
	var to connection
	show := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			s, err := client.Scrub(c.Context())
			if err != nil {
				return err
			}
			return t.result(s, func(w io.Writer) { printScrub(w, s) })
		})
	}
	c := &cobra.Command{
		Use:     "scrub [show | begin]",
		GroupID: groupAround,
		Short:   "Show how far the vault has read itself again, and what it found",
		RunE:    show,
	}
	to.add(c)
	c.AddCommand(&cobra.Command{Use: "show", Short: "Show where the scrub is", Args: arguments(), RunE: show},
		&cobra.Command{Use: "begin", Short: "Read the whole vault again from now on", Args: arguments(), RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				if err := client.ScrubNow(c.Context()); err != nil {
					return err
				}
				return t.result(map[string]any{"begun": true}, func(w io.Writer) { fmt.Fprintln(w, "The vault reads itself again.") })
			})
		}})
	return c
}

func printScrub(w io.Writer, s api.ScrubStatus) {
	switch {
	case s.Running:
		fmt.Fprintf(w, "Reading: %s of %s, at up to %s/s.\n", sizeOf(s.DoneBytes), sizeOf(s.TotalBytes), sizeOf(s.BytesPerSecond))
	case !s.Next.IsZero():
		fmt.Fprintf(w, "At rest; the next pass begins %s.\n", s.Next.Local().Format(time.DateTime))
	}
	if !s.Completed.IsZero() {
		fmt.Fprintf(w, "%d passes completed, the last one %s: %s.\n", s.Passes, s.Completed.Local().Format(time.DateTime), sizeOf(s.CompletedBytes))
	}
	if s.Trouble != "" {
		fmt.Fprintf(w, "It does not get on: %s\n", s.Trouble)
	}
	if len(s.Findings) == 0 {
		fmt.Fprintln(w, "No damage is known.")
	}
	for _, f := range s.Findings {
		fmt.Fprintf(w, "damaged: disk %s, bytes %d to %d, needed by %d points: %s\n", f.Disk, f.Offset, f.Offset+max(f.Length, 1)-1, len(f.Points), f.Reason)
	}
}
