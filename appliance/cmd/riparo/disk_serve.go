package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/replication/nbd"
	"riparo/replication/vault"
)

func newDiskServe(t *terminal) *cobra.Command {
	var flags vaultFlags
	var point, socket, listen, overlay string
	c := &cobra.Command{
		Use:   "serve --vault DIR --disk NAME [--point ID] --socket PATH|--listen HOST:PORT [--copy-on-write FILE]",
		Short: "Offer a recovery point as an NBD disk, until Ctrl-C",
		Long: `Offer a recovery point as a disk to any NBD client. It is read-only; with
--copy-on-write it can be written, and what is written goes to FILE while the point
stays as it is. The same FILE goes on where it was left.

When the disk can be used, one line that begins with "ready " gives its address.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.check(c, true); err != nil {
				return err
			}
			if (socket == "") == (listen == "") {
				return usagef(c, "want one of --socket PATH and --listen HOST:PORT")
			}
			network, address := "unix", socket
			if listen != "" {
				if _, _, err := net.SplitHostPort(listen); err != nil {
					return usagef(c, "--listen %s: want HOST:PORT", listen)
				}
				network, address = "tcp", listen
			}
			return flags.open(c.Context(), t, vault.Options{ReadOnly: true}, func(v *vault.Vault) (err error) {
				p, err := flags.point(v, point)
				if err != nil {
					return err
				}
				view, err := v.View(c.Context(), flags.id(), p.ID)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, view.Close()) }()
				export := nbd.Export{Source: view, Description: fmt.Sprintf("disk %s as of recovery point %s", flags.disk, p.ID)}
				if overlay != "" {
					o, err := nbd.OpenOverlay(overlay, view, flags.disk+"@"+string(p.ID))
					if err != nil {
						return err
					}
					defer func() { err = errors.Join(err, o.Sync(), o.Close()) }()
					export.Source, export.Writer = o, o
				}
				return serve(c.Context(), t, network, address, flags.disk, p.ID, export)
			})
		},
	}
	flags.add(c)
	c.Flags().StringVar(&point, "point", "", "recovery point (default: the latest)")
	c.Flags().StringVar(&socket, "socket", "", "unix socket to listen on")
	c.Flags().StringVar(&listen, "listen", "", "address to listen on; port 0 takes a free one")
	c.Flags().StringVar(&overlay, "copy-on-write", "", "file for what clients write; made if need be")
	return c
}

// serve offers one export until ctx ends.
func serve(ctx context.Context, t *terminal, network, address, name string, point replication.PointID, export nbd.Export) error {
	server := nbd.NewServer(nbd.ServerOptions{})
	for _, name := range []string{name, ""} { // also for clients that name no export
		if err := server.Add(name, export); err != nil {
			return err
		}
	}
	listener, err := listenOn(ctx, network, address)
	if err != nil {
		return &replication.Problem{
			Code: "serve.address", Cause: fmt.Sprintf("cannot listen on %s: %v", address, err), Effect: "nothing is served",
			Action: "choose another address, or end what uses it", Remedy: replication.Stop, Err: err,
		}
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		t.remark("Whoever reaches %s can read this disk: the connection is neither encrypted nor checked.", tcp)
	}
	uri := nbd.URI(network, listener.Addr().String(), name)
	if err := t.ready(uri, point); err != nil {
		return err
	}
	return server.Serve(ctx, listener)
}

// ready tells that the disk can be used. With JSON wanted it is the one document,
// on one line.
func (t *terminal) ready(uri string, point replication.PointID) error {
	if t.wantsJSON() {
		_, err := fmt.Fprintf(t.out, "{\"ready\":%q,\"point\":%q}\n", uri, point)
		return err
	}
	_, err := io.WriteString(t.out, "ready "+uri+"\n")
	return err
}
