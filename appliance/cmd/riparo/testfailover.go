package main

import (
	"github.com/spf13/cobra"

	"riparo/replication/lifecycle"
	"riparo/web/api"
)

func newTestFailover(t *terminal) *cobra.Command {
	var to connection
	var w wait
	var point pointFlag
	var network string
	c := &cobra.Command{
		Use:     "test-failover MACHINE [--point ID|app] [--network NETWORK] [--wait] | test-failover cleanup MACHINE [--notes TEXT]",
		GroupID: groupMachines,
		Short:   "Boot a copy of a machine beside it, isolated; cleanup removes it",
		Long: `Boot a copy of a machine from a recovery point, in an isolated network of the target
site. The machine and its replication are not touched. The copy stays until it is
cleaned up: riparo test-failover cleanup MACHINE.`,
		Args: arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], lifecycle.TestFailover, api.VerbBody{Point: point.id(), Network: network}, w)
			})
		},
	}
	to.add(c)
	w.add(c)
	point.add(c)
	c.Flags().StringVar(&network, "network", "", "network of the target to attach the copy to (default: an isolated one)")
	c.AddCommand(newCleanupTest(t, &to))
	return c
}

func newCleanupTest(t *terminal, to *connection) *cobra.Command {
	var w wait
	var notes string
	c := &cobra.Command{
		Use:   "cleanup MACHINE [--notes TEXT] [--wait]",
		Short: "Remove the copy that a test failover made",
		Args:  arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], lifecycle.CleanupTest, api.VerbBody{Notes: notes}, w)
			})
		},
	}
	w.add(c)
	c.Flags().StringVar(&notes, "notes", "", "what the test showed; kept with its result")
	return c
}
