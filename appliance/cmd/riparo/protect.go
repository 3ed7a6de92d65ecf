package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/web/api"
)

func newProtect(t *terminal) *cobra.Command {
	var to connection
	var w wait
	var body api.ProtectBody
	var word string
	c := &cobra.Command{
		Use:     "protect --site SITE --machine MACHINE --target SITE [--policy POLICY] [--wait]",
		GroupID: groupMachines,
		Short:   "Take a machine under protection",
		Long: `Take a machine under protection: its disks are sent to the vault once (initial
replication), then what changes, by the policy. The machine is named by its name or its
reference at the site; ` + "`riparo sites discover`" + ` lists both.

Over a thin link, bring images of the disks: copy raw images, however old, into the
folder seeds of the appliance and name them with --seeded. The replica is filled from
them, all of the disk is compared by checksum, and only what differs is sent.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := required(c, "site", "machine", "target"); err != nil {
				return err
			}
			return to.reach(func(client *api.Client) error {
				m, err := discovered(c.Context(), client, body.Site, word)
				if err != nil {
					return err
				}
				body.Ref = string(m.Ref)
				started, err := client.Protect(c.Context(), body)
				if err != nil {
					return err
				}
				return t.asked(c.Context(), client, asked{Machine: started.Machine, Name: m.Name, Verb: lifecycle.EnableProtection, Job: started.Job}, w)
			})
		},
	}
	to.add(c)
	w.add(c)
	c.Flags().StringVar(&body.Site, "site", "", "site where the machine runs")
	c.Flags().StringVar(&word, "machine", "", "the machine: its name, or its reference at the site")
	c.Flags().StringVar(&body.Target, "target", "", "site that takes over")
	c.Flags().StringVar(&body.Policy, "policy", replication.DefaultPolicy().Name, "replication policy")
	c.Flags().StringVar(&body.Network, "network", "", "network of the target for a real failover (default: none)")
	c.Flags().StringArrayVar(&body.Exclude, "exclude", nil, "key of a disk that is not replicated; may be repeated")
	c.Flags().Var((*seeds)(&body.Seeded), "seeded", "fill the disk's replica from a raw image in the appliance's folder seeds first, then send only what differs; may be repeated")
	c.Flags().StringVar(&body.BootSign, "boot-sign", "", "text that the machine prints on its serial console when it is up; a failover waits for it (default: anything printed will do)")
	return c
}

// discovered finds a machine of a site as it was last seen. Unless that is exactly
// the one that was named the sites are asked: one of nearly that name must not take
// the place of one that is new.
func discovered(ctx context.Context, client *api.Client, site, word string) (hypervisor.Machine, error) {
	seen, err := client.Discovered(ctx, false)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	m, err := machineAt(seen, site, word)
	if err == nil && (m.Name == word || string(m.Ref) == word) {
		return m, nil
	}
	if seen, err = client.Discovered(ctx, true); err != nil {
		return m, err
	}
	return machineAt(seen, site, word)
}

func machineAt(seen []api.Discovered, site, word string) (hypervisor.Machine, error) {
	name := func(d api.Discovered) string { return d.Site.Name }
	at, err := named("site", site, seen, name, name, name)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	m, err := named("machine at "+site, word, at.Machines,
		func(m hypervisor.Machine) string { return string(m.Ref) },
		func(m hypervisor.Machine) string { return m.Name },
		func(m hypervisor.Machine) string { return fmt.Sprintf("%s (%s)", m.Name, m.Ref) })
	if p := at.Problem; p != nil && err != nil { // it was not seen because the site was not
		return m, &replication.Problem{Code: p.Code, Cause: p.Cause, Effect: cmp.Or(p.Effect, "the machines of "+site+" are not known"),
			Action: p.Action, Remedy: replication.Stop}
	}
	return m, err
}
