package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newRoot puts the command line together. Every verb is listed here.
func newRoot(t *terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "riparo",
		Short: "Disaster recovery: protect machines, keep recovery points, bring machines up elsewhere",
	}
	root.SetOut(t.out)
	root.SetErr(t.err)
	root.PersistentFlags().VarP(&t.format, "output", "o", "how to print the result: table or json")
	root.PersistentFlags().BoolVar(&t.json, "json", false, "short for --output json")
	root.AddGroup(
		&cobra.Group{ID: groupAppliance, Title: "The appliance:"},
		&cobra.Group{ID: groupMachines, Title: "Protected machines, through the API of an appliance:"},
		&cobra.Group{ID: groupAround, Title: "What is around them, through the API of an appliance:"},
		&cobra.Group{ID: groupDisk, Title: "Single disks and the keys of vaults, without an appliance:"},
	)
	root.AddCommand(
		newServe(t),
		newDemo(t),
		newClaim(t),
		newBackup(t),
		newRestore(t),
		newSetup(t),
		newMonitoring(t),

		newMachines(t),
		newPoints(t), newDismissAlarm(t),
		newProtect(t),
		newTestFailover(t),
		newFailover(t),
		newChangePoint(t),
		newCommit(t),
		newReverse(t),
		newFailback(t),
		newResynchronize(t),
		newPause(t),
		newResume(t),
		newDisable(t),

		newJobs(t),
		newEvents(t),
		newLogs(t),
		newSupportBundle(t),
		newPolicies(t),
		newSites(t), newHealth(t), newSignIn(t), newApprovals(t), newKept(t), newScrub(t),
		newTokens(t),
		newUsers(t),
		newAudit(t),

		newDisk(t),
		newKeys(t),
		newVersion(t),
	)
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strict(root)
	return root
}

// Groups of the help page.
const (
	groupAppliance = "appliance"
	groupMachines  = "machines"
	groupAround    = "around"
	groupDisk      = "disk"
)

// usageError is a command line that cannot be understood. It ends with status 2.
type usageError struct {
	err     error
	command *cobra.Command
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// strict makes wrong usage an error of its own kind, everywhere alike. Left to
// itself, cobra answers an unknown command of a group with a help page and success.
//
// A group that has a RunE of its own does that when no command is named; one that
// also has Args is a verb first and takes arguments that are no commands.
func strict(c *cobra.Command) {
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{err, c} })
	c.DisableFlagsInUseLine = true // Use names those that matter
	if own := c.RunE; c.HasSubCommands() && (own == nil || c.Args == nil) {
		if own == nil {
			c.Use += " COMMAND"
		}
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 && own != nil {
				return own(c, args)
			}
			if len(args) == 0 {
				return &usageError{fmt.Errorf("a command is missing behind %q", c.CommandPath()), c}
			}
			message := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				message += fmt.Sprintf(": did you mean %s?", strings.Join(near, " or "))
			}
			return &usageError{fmt.Errorf("%s", message), c}
		}
	} else if judge := c.Args; judge != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := judge(c, args); err != nil {
				return &usageError{err, c}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

// usagef is for a verb that finds its own flags or arguments wrong.
func usagef(c *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...), c}
}

// newHelp is cobra's help command, but one that does not take an unknown word for
// a success.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usagef(c.Root(), "there is no command %q to explain", strings.Join(args, " "))
			}
			return found.Help()
		},
	}
}

// arguments says how many arguments a verb takes and what they are called.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("one argument too many: %q", args[len(names)])
		}
		return nil
	}
}
