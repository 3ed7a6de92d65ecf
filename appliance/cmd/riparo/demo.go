package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/appliance"
	"riparo/appliance/demo"
)

func newDemo(t *terminal) *cobra.Command {
	var once bool
	var data, listen, diskSize, churn string
	o := demo.Options{Machines: demo.DefaultMachines, Seed: 1}
	c := &cobra.Command{
		Use:     "demo [--once]",
		GroupID: groupAppliance,
		Short:   "Show the whole story on embedded machines: protect, test, fail over, fail back",
		Long: `Show the whole story of disaster recovery on the embedded lab: machines with real
bytes and a running workload are protected, replicated, tested, failed over, moved to
another recovery point, committed, reversed and failed back. Every step is judged
against the workload's own record. The sites are emulated; the engine, the vault and
the NBD disks the machines start from are the product's.

Without --once the console stays open until Ctrl-C.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if _, _, err := net.SplitHostPort(listen); err != nil {
				return usagef(c, "--listen %s: want HOST:PORT", listen)
			}
			if o.DiskSize, err = parseSize(diskSize); err != nil {
				return usagef(c, "--disk-size: %v", err)
			}
			if o.Churn, err = parseSize(churn); err != nil {
				return usagef(c, "--churn: %v", err)
			}
			if err := o.Check(); err != nil {
				return usagef(c, "%v", err)
			}
			if data == "" {
				if data, err = os.MkdirTemp("", "riparo-demo-"); err != nil {
					return err
				}
				defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
			}
			// The demonstration tells everything: there is time to read it afterwards.
			log, err := appliance.OpenLog(data, slog.LevelDebug)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, log.Close()) }()
			o.Data, o.Listen, o.Version, o.Logs = data, listen, version, log
			o.Tell = func(format string, args ...any) { t.remark("  "+format, args...) }
			opened := func(a *appliance.Appliance) error {
				if once {
					return nil
				}
				return t.announce(t.err, a) // stdout is for the result
			}
			told := func(r demo.Result) error {
				err := t.result(r, func(w io.Writer) { printStory(w, r) })
				if err == nil && !r.Verified {
					return &saidError{"the story was not verified"}
				}
				if !once {
					t.remark("The console stays open. End with Ctrl-C.")
				}
				return err
			}
			return demo.Run(c.Context(), o, demo.Stage{Opened: opened, Told: told, Stay: !once})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "end after the story")
	c.Flags().StringVar(&data, "data", "", "folder to make and keep, without an appliance in it (default: a temporary one)")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address of the console; port 0 takes a free one")
	c.Flags().IntVar(&o.Machines, "machines", o.Machines, "number of machines")
	c.Flags().StringVar(&diskSize, "disk-size", "1GiB", "size of each disk; every machine has two")
	c.Flags().StringVar(&churn, "churn", "2MiB", "bytes a second that each machine writes")
	c.Flags().Uint64Var(&o.Seed, "seed", o.Seed, "decides what the disks contain and what is written")
	return c
}

// printStory prints the result for people.
func printStory(w io.Writer, r demo.Result) {
	var rows []table.Row
	for _, m := range r.Machines {
		verified := "yes"
		if !m.Verified {
			verified = "NO"
		}
		rows = append(rows, table.Row{m.Name, m.Disks, sizeOf(m.LogicalBytes), sizeOf(m.SentBytes), m.RecoveryPoints,
			fmt.Sprintf("%.1f / %.1f s", m.RPOp50, m.RPOp99), fmt.Sprintf("%.2f s", m.TestSeconds), fmt.Sprintf("%.2f s", m.FailoverSeconds),
			sizeOf(m.ReverseBytes), fmt.Sprintf("%.2f s", m.FailbackSeconds), verified})
	}
	tabulate(w, table.Row{"Machine", "Disks", "Size", "Sent", "Points", "RPO p50 / p99", "Test failover", "Failover", "Sent back", "Failback", "Verified"}, rows)
	for _, why := range r.Why {
		fmt.Fprintf(w, "not verified: %s\n", why)
	}
	verdict := "verified: every point and every machine shows one instant of its workload, byte for byte"
	if !r.Verified {
		verdict = "NOT VERIFIED"
	}
	fmt.Fprintf(w, "%s, in %.1f s\n", verdict, r.Seconds)
}
