package main

import (
	"github.com/spf13/cobra"

	"riparo/replication/lifecycle"
	"riparo/web/api"
)

func newResynchronize(t *terminal) *cobra.Command {
	return newPlainVerb(t, lifecycle.Resynchronize, "resynchronize", "Compare a machine's disks with the vault and send what differs", `Compare a machine's disks with the vault by checksum and send what differs. The recovery
points there are stay as good as they were.`)
}

func newPause(t *terminal) *cobra.Command {
	var to connection
	var notes string
	c := &cobra.Command{
		Use:     "pause MACHINE [--notes TEXT]",
		GroupID: groupMachines,
		Short:   "Pause the replication of a machine",
		Long: `Pause the replication of a machine. Its recovery points stay, and it can be failed over;
what it changes meanwhile is sent when it is resumed.`,
		Args: arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], lifecycle.Pause, api.VerbBody{Notes: notes}, wait{})
			})
		},
	}
	to.add(c)
	c.Flags().StringVar(&notes, "notes", "", "why; shown with the machine")
	return c
}

func newResume(t *terminal) *cobra.Command {
	var to connection
	c := &cobra.Command{
		Use:     "resume MACHINE",
		GroupID: groupMachines,
		Short:   "Go on with the replication of a machine",
		Args:    arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], lifecycle.Resume, api.VerbBody{}, wait{})
			})
		},
	}
	to.add(c)
	return c
}

func newDisable(t *terminal) *cobra.Command {
	var to connection
	var w wait
	var confirm string
	var keep bool
	c := &cobra.Command{
		Use:     "disable MACHINE --confirm NAME [--keep-points] [--wait]",
		GroupID: groupMachines,
		Short:   "End the protection of a machine",
		Long: `End the protection of a machine. The machine itself is not touched; its recovery points
are erased, unless --keep-points leaves them in the vault.`,
		Args: arguments("MACHINE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				return t.ask(c.Context(), client, args[0], lifecycle.DisableProtection, api.VerbBody{Confirm: confirm, KeepPoints: keep}, w)
			})
		},
	}
	to.add(c)
	w.add(c)
	addConfirm(c, &confirm)
	c.Flags().BoolVar(&keep, "keep-points", false, "leave the recovery points in the vault")
	return c
}
