package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"riparo/appliance"
	engine "riparo/replication/vault"
)

// defaultListen is where console, API and data are reached: one port, this
// machine only, unless somebody decides otherwise.
const defaultListen = "127.0.0.1:9443"

func newServe(t *terminal) *cobra.Command {
	var data, listen, roles, level, vault string
	var packed compression
	c := &cobra.Command{
		Use:     "serve --data DIR [--listen HOST:PORT] [--vault DIR]",
		GroupID: groupAppliance,
		Short:   "Run the appliance: console, API, replication",
		Long: `Run the appliance until Ctrl-C: configuration server, process server and master
target in one. Everything it keeps is in DIR; the vault may be elsewhere. At the first start it prints a one-time
setup token, with which the console is claimed.

When it serves, one line that begins with "ready " gives its address.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if data == "" {
				return usagef(c, "want --data DIR")
			}
			if _, _, err := net.SplitHostPort(listen); err != nil {
				return usagef(c, "--listen %s: want HOST:PORT", listen)
			}
			if err := checkRoles(c, roles); err != nil {
				return err
			}
			if vault != "" { // it is remembered, and a service starts in another folder
				if vault, err = filepath.Abs(vault); err != nil {
					return err
				}
			}
			var least slog.Level
			if err := least.UnmarshalText([]byte(level)); err != nil {
				return usagef(c, "--log-level %s: want debug, info, warn or error", level)
			}
			log, err := appliance.OpenLog(data, least)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, log.Close()) }()
			config := appliance.Config{Data: data, Listen: listen, Vault: vault, Version: version, Logs: log, Limits: engine.DefaultLimits(), Compression: engine.Compression(packed)}
			for {
				again, err := t.serve(c.Context(), config)
				if again == nil {
					return err
				}
				if err != nil { // what could not be closed in order is opened anew
					log.Warn("the appliance begins again although not all was closed in order", "error", err)
				}
				t.remark("the appliance begins again")
				config.Listener = again
			}
		},
	}
	c.Flags().StringVar(&data, "data", "", "folder of everything the appliance keeps; made if need be")
	c.Flags().StringVar(&listen, "listen", defaultListen, "address of console and API; port 0 takes a free one")
	c.Flags().StringVar(&vault, "vault", "", "folder of the vault, from now on (default: as before; at first the folder vault in DIR)")
	packed.add(c)
	c.Flags().StringVar(&roles, "roles", allRoles, "roles of this machine")
	c.Flags().StringVar(&level, "log-level", "info", "least level that is logged: debug, info, warn, error")
	return c
}

// serve opens an appliance and lets it work. When it is to begin again it gives what
// the next one listens on: the same port, also when any would have done.
func (t *terminal) serve(ctx context.Context, config appliance.Config) (again net.Listener, err error) {
	a, err := appliance.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := t.announce(t.out, a); err != nil {
		return nil, err
	}
	if err := a.Run(ctx); !errors.Is(err, appliance.ErrRestart) {
		return nil, err
	}
	return a.HandOn(), nil
}

// allRoles is what an appliance is today: all roles in one daemon.
const allRoles = "configuration,process,target"

// checkRoles refuses roles that would silently be more than was asked for.
func checkRoles(c *cobra.Command, roles string) error {
	want := map[string]bool{}
	for role := range strings.SplitSeq(roles, ",") {
		if !strings.Contains(","+allRoles+",", ","+role+",") {
			return usagef(c, "--roles %s: want roles out of %s", roles, allRoles)
		}
		want[role] = true
	}
	if len(want) != strings.Count(allRoles, ",")+1 {
		return usagef(c, "--roles %s: this version runs all roles in one daemon; leave the flag out", roles)
	}
	return nil
}

// announce says where the console is and how to trust and claim it. The line that
// scripts wait for goes to ready.
func (t *terminal) announce(ready io.Writer, a *appliance.Appliance) error {
	t.remark("console      %s", a.URL)
	t.remark("certificate  SHA-256 %s", a.Fingerprint)
	if a.SetupToken != "" {
		t.remark("setup token  %s", a.SetupToken)
	}
	_, err := fmt.Fprintf(ready, "ready %s\n", a.URL)
	return err
}
