package main

import (
	"github.com/spf13/cobra"

	"riparo/replication/lifecycle"
	"riparo/web/api"
)

func newFailover(t *terminal) *cobra.Command {
	var to connection
	var w wait
	var point pointFlag
	var planned, unplanned, syncFirst bool
	var confirm string
	c := &cobra.Command{
		Use:     "failover MACHINE --planned|--unplanned [--point ID|app] [--sync-first] --confirm NAME [--wait]",
		GroupID: groupMachines,
		Short:   "Move a machine to its target site",
		Long: `Move a machine to its target site.

A planned failover shuts the machine down, sends its last changes and starts the replica:
nothing is lost. An unplanned failover starts the replica from a recovery point and does
not touch the source, unless --sync-first asks to try to shut it down and to send its
last changes.

Until the commit another recovery point can be chosen: riparo change-point.`,
		Args: arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			verb := lifecycle.PlannedFailover
			switch {
			case planned == unplanned:
				return usagef(c, "want one of --planned and --unplanned")
			case planned && (point.id() != "" || syncFirst):
				return usagef(c, "--point and --sync-first belong to --unplanned: a planned failover sends the last changes and goes to them")
			case unplanned:
				verb = lifecycle.UnplannedFailover
			}
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], verb, api.VerbBody{Point: point.id(), SyncFirst: syncFirst, Confirm: confirm}, w)
			})
		},
	}
	to.add(c)
	w.add(c)
	point.add(c)
	c.Flags().BoolVar(&planned, "planned", false, "shut the machine down first and lose nothing")
	c.Flags().BoolVar(&unplanned, "unplanned", false, "start from a recovery point; the source may be gone")
	c.Flags().BoolVar(&syncFirst, "sync-first", false, "unplanned: first try to shut the source down and to send its last changes")
	addConfirm(c, &confirm)
	return c
}

// addConfirm is the flag of verbs that move production or erase points.
func addConfirm(c *cobra.Command, confirm *string) {
	c.Flags().StringVar(confirm, "confirm", "", "the machine's name again, so that it is not another one")
}

func newChangePoint(t *terminal) *cobra.Command {
	var to connection
	var w wait
	var point pointFlag
	c := &cobra.Command{
		Use:     "change-point MACHINE --point ID [--wait]",
		GroupID: groupMachines,
		Short:   "Start the replica again from another recovery point, before the commit",
		Long: `Start the replica again from another recovery point, before the commit. The replica that
runs is stopped and removed with all that it has written since the failover.`,
		Args: arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := required(c, "point"); err != nil {
				return err
			}
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], lifecycle.ChangePoint, api.VerbBody{Point: point.id()}, w)
			})
		},
	}
	to.add(c)
	w.add(c)
	point.add(c)
	return c
}

func newCommit(t *terminal) *cobra.Command {
	return newPlainVerb(t, lifecycle.Commit, "commit", "Decide for the recovery point of a failover", `Decide for the recovery point of a failover. The replica becomes independent of the vault;
the recovery point cannot be changed any more.`)
}

func newReverse(t *terminal) *cobra.Command {
	return newPlainVerb(t, lifecycle.ReverseReplicate, "reverse", "Replicate from where the machine runs now to where it came from", `Replicate from where the machine runs now to where it came from. What changed since the
failover is sent. The original machine is shut down if it runs, and kept from starting.`)
}

func newFailback(t *terminal) *cobra.Command {
	var to connection
	var w wait
	var confirm string
	c := &cobra.Command{
		Use:     "failback MACHINE --confirm NAME [--wait]",
		GroupID: groupMachines,
		Short:   "Move a machine back to where it came from, without loss",
		Args:    arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], lifecycle.Failback, api.VerbBody{Confirm: confirm}, w)
			})
		},
	}
	to.add(c)
	w.add(c)
	addConfirm(c, &confirm)
	return c
}

// newPlainVerb is a verb that needs nothing but its machine.
func newPlainVerb(t *terminal, verb lifecycle.Verb, word, short, long string) *cobra.Command {
	var to connection
	var w wait
	c := &cobra.Command{
		Use:     word + " MACHINE [--wait]",
		GroupID: groupMachines,
		Short:   short,
		Long:    long,
		Args:    arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], verb, api.VerbBody{}, w)
			})
		},
	}
	to.add(c)
	w.add(c)
	return c
}
