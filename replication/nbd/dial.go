package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"riparo/replication"
)

// connect opens one connection and agrees on the export.
func (c *Client) connect(ctx context.Context, contexts []string) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	raw, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	h := &handshake{conn: raw, r: bufio.NewReaderSize(raw, readBufferSize), address: c.address}
	info, err := h.negotiate(ctx, c.tlsConfig(), contexts)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, handshakeProblem(c.address, err)
	}
	return newConnection(h.conn, h.r, info, c.options.Timeout), nil
}

// open connects to the server's address.
func (c *Client) open(ctx context.Context) (net.Conn, error) {
	dial := c.options.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, c.address.Network, c.address.Address)
	if err != nil {
		return nil, &replication.Problem{
			Code: "nbd.unreachable", Cause: fmt.Sprintf("the NBD server of %s cannot be reached: %v", c.address, err),
			Effect: "its disk cannot be read", Action: "check that the server runs and that the network lets this machine reach it",
			Remedy: replication.Retry, Err: err,
		}
	}
	return conn, nil
}

func (c *Client) tlsConfig() *tls.Config {
	config := c.options.TLS
	if config == nil && !c.address.TLS {
		return nil
	}
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" && !config.InsecureSkipVerify {
		config = config.Clone()
		config.ServerName = "localhost"
		if host, _, err := net.SplitHostPort(c.address.Address); err == nil && c.address.Network != "unix" {
			config.ServerName = host
		}
	}
	return config
}

func handshakeProblem(a Address, err error) error {
	p := &replication.Problem{Code: "nbd.handshake", Cause: fmt.Sprintf("no agreement with the NBD server of %s: %v", a, err), Effect: "its disk cannot be read", Remedy: replication.Retry, Err: err}
	var refusal *optionError
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		p.Action = "check that the server still answers"
	case errors.Is(err, errAfterTLS):
		p.Code, p.Action, p.Remedy = "nbd.tls", "give this machine a certificate that the server trusts", replication.Stop
	case errors.Is(err, ErrNoExport):
		p.Code, p.Action = "nbd.no-export", "check the name of the export and that it is still being served"
	case errors.Is(err, ErrNoContext):
		p.Code, p.Action, p.Remedy = "nbd.no-context", "read the disk in full and compare", replication.Resync
	case errors.As(err, &untrusted):
		p.Code, p.Action, p.Remedy = "nbd.tls", "check the server's certificate and the authority that is trusted", replication.Stop
	case errors.As(err, &refusal) && refusal.reply == repErrTLSReqd:
		p.Code, p.Action, p.Remedy = "nbd.tls", "the server wants TLS: use an nbds:// address and its authority's certificate", replication.Stop
	case errors.As(err, &refusal) && refusal.option == optStartTLS:
		p.Code, p.Action, p.Remedy = "nbd.tls", "switch on TLS at the server, or use an nbd:// address", replication.Stop
	}
	return p
}

// List asks a server for the names of its exports.
func List(ctx context.Context, uri string, o Options) ([]string, error) {
	a, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	c := &Client{address: a, options: o}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	conn, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	h := &handshake{conn: conn, r: bufio.NewReaderSize(conn, readBufferSize), address: a}
	names, err := h.list(ctx, c.tlsConfig())
	if err != nil {
		return nil, handshakeProblem(a, err)
	}
	return names, nil
}
