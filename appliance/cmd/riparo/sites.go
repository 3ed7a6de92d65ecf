package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

func newSites(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			sites, err := knownSites(c.Context(), client)
			if err != nil {
				return err
			}
			return t.result(map[string]any{"sites": sites}, func(w io.Writer) { printSites(w, sites) })
		})
	}
	c := &cobra.Command{
		Use:     "sites [list | add SITE … | trust SITE | remove SITE | discover]",
		GroupID: groupAround,
		Short:   "List, add and remove sites; discover their machines",
		RunE:    list,
	}
	to.add(c)
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the sites", Args: arguments(), RunE: list},
		newAddSite(t, &to),
		newTrustSite(t, &to),
		&cobra.Command{
			Use:   "remove SITE",
			Short: "Remove a site that no protected machine uses",
			Args:  arguments("SITE"),
			RunE: func(c *cobra.Command, args []string) error {
				return to.reach(func(client *api.Client) error {
					sites, err := client.Sites(c.Context())
					if err != nil {
						return err
					}
					name := func(s store.Site) string { return s.Name }
					site, err := named("site", args[0], sites, name, name, name)
					if err != nil {
						return err
					}
					if err := client.RemoveSite(c.Context(), site.Name); err != nil {
						return err
					}
					return t.result(map[string]any{"removed": site.Name}, func(w io.Writer) { fmt.Fprintf(w, "site %s is removed\n", site.Name) })
				})
			},
		},
		newDiscover(t, &to),
	)
	return c
}

// knownSites are the sites with the outcome of the last contact, which discovery
// knows and their records do not.
func knownSites(ctx context.Context, client *api.Client) ([]store.Site, error) {
	seen, err := client.Discovered(ctx, false)
	sites := []store.Site{}
	for _, d := range seen {
		sites = append(sites, d.Site)
	}
	return sites, err
}

func printSites(w io.Writer, sites []store.Site) {
	if len(sites) == 0 {
		fmt.Fprintln(w, "There is no site yet. `riparo sites add` adds one.")
		return
	}
	var rows []table.Row
	for _, s := range sites {
		state := "reachable"
		switch {
		case s.Problem != nil:
			state = s.Problem.Cause
		case s.Contacted.IsZero():
			state = "not contacted yet"
		case !s.Reachable:
			state = "not reachable"
		}
		rows = append(rows, table.Row{s.Name, s.Kind, s.Address, clock(s.Contacted), state})
	}
	tabulate(w, table.Row{"site", "kind", "address", "contacted", "state"}, rows)
}

// labKind is a site that the appliance itself emulates; it is nowhere else.
const labKind = "lab"

func newAddSite(t *terminal, to *connection) *cobra.Command {
	var site api.SiteBody
	c := &cobra.Command{
		Use:   "add SITE --kind KIND --address ADDRESS [--fingerprint SHA256]",
		Short: "Add a site; it is contacted first",
		Long: `Add a site; it is contacted first. Kinds and their addresses:

  kvm-qmp      QEMU without libvirt: the folder of its QMP sockets
  kvm-libvirt  a libvirt URI, as in qemu:///system
  lab          embedded machines, to try Riparo out: how many are made, 3 if it is
               not said, 0 for a site that only takes over

A host whose SSH key is not known, or whose TLS certificate no authority vouches for,
is shown and has to be confirmed: on a terminal by answering, and otherwise with
--fingerprint. What was confirmed is kept with the site.`,
		Args: arguments("SITE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := required(c, "kind"); err != nil {
				return err
			}
			site.Name = args[0]
			if site.Kind == labKind && site.Address == "" {
				site.Address = "3"
			}
			if err := required(c, "address"); err != nil {
				return err
			}
			return to.reach(func(client *api.Client) error {
				err := client.AddSite(c.Context(), site)
				if err != nil && site.Fingerprint == "" && replication.AsProblem(err).Code == "peer.unknown" {
					err = t.addConfirmed(c, client, &site, err)
				}
				if err != nil {
					return err
				}
				return t.result(site, func(w io.Writer) {
					fmt.Fprintf(w, "site %s is added; `riparo sites discover` lists its machines\n", site.Name)
				})
			})
		},
	}
	c.Flags().StringVar(&site.Kind, "kind", "", "kvm-qmp, kvm-libvirt or lab")
	c.Flags().StringVar(&site.Address, "address", "", "where it is reached")
	c.Flags().StringVar(&site.Fingerprint, "fingerprint", "", fingerprintUsage)
	return c
}

func newDiscover(t *terminal, to *connection) *cobra.Command {
	var lastSeen bool
	c := &cobra.Command{
		Use:   "discover [--last-seen]",
		Short: "Ask all sites for their machines and list them",
		Long: `Ask all sites for their machines and list them: their references, whether they are
protected, and what keeps one from being so. The exit status is 1 when a site could not
be asked; what is known of the others is listed all the same.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				sites, err := client.Discovered(c.Context(), !lastSeen)
				if err != nil {
					return err
				}
				if err := t.result(map[string]any{"sites": sites}, func(w io.Writer) { printDiscovered(w, sites) }); err != nil {
					return err
				}
				return t.tellUnseen(sites)
			})
		},
	}
	c.Flags().BoolVar(&lastSeen, "last-seen", false, "list what was seen last instead of asking now")
	return c
}

func printDiscovered(w io.Writer, sites []api.Discovered) {
	var rows []table.Row
	for _, s := range sites {
		for _, m := range s.Machines {
			var size int64
			for _, d := range m.Disks {
				size += d.Size
			}
			rows = append(rows, table.Row{s.Site.Name, m.Name, m.Ref, m.Power, len(m.Disks), sizeOf(size), standingOf(s, m)})
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "No site shows a machine.")
		return
	}
	tabulate(w, table.Row{"site", "machine", "reference", "power", "disks", "size", "protection"}, rows)
}

// standingOf says what a machine is to Riparo.
func standingOf(s api.Discovered, m hypervisor.Machine) string {
	switch id := s.Protects[m.Ref]; {
	case m.Replica:
		return strings.TrimSpace("replica " + id)
	case id != "":
		return "protected as " + id
	case len(m.Obstacles) > 0:
		return "cannot be protected: " + strings.Join(m.Obstacles, "; ")
	}
	return "-"
}

// tellUnseen tells which sites could not be asked, and fails when there are any.
func (t *terminal) tellUnseen(sites []api.Discovered) error {
	var unseen []string
	for _, s := range sites {
		p := s.Problem
		if p == nil {
			continue
		}
		unseen = append(unseen, s.Site.Name)
		t.remark("riparo: site %s: %s", s.Site.Name, p.Cause)
		t.remark("  effect: its machines are listed as they were seen last, at %s", clock(s.Seen))
		if p.Action != "" {
			t.remark("  remedy: %s", p.Action)
		}
	}
	if len(unseen) > 0 {
		return &saidError{"not every site could be asked: " + strings.Join(unseen, ", ")}
	}
	return nil
}
