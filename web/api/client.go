package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
)

// Client calls the API of an appliance. Its errors are [replication.Problem]s.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// Times of a call. A verb returns at once; contacting a site may take a while.
const (
	callTime    = 2 * time.Minute
	connectTime = 10 * time.Second
	maxAnswer   = 64 << 20 // more than any list there is
)

// New gives a client. trust says how the appliance is known: the PEM of its CA or
// its certificate, the SHA-256 fingerprint of its certificate in hex (colons are
// passed over), or, when it is empty, the CAs of the system.
func New(address, token, trust string) (*Client, error) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, &replication.Problem{Code: "client.url", Cause: fmt.Sprintf("%q is not the address of an appliance", address),
			Effect: "nothing was asked of it", Action: "give it as https://HOST:PORT (--url or RIPARO_URL)", Remedy: replication.Stop}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch fingerprint := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(trust), ":", "")); {
	case trust == "":
	case strings.Contains(trust, "-----BEGIN"):
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(trust)) {
			return nil, untrusted("the PEM text holds no certificate")
		}
	default:
		want, err := hex.DecodeString(fingerprint)
		if err != nil || len(want) != sha256.Size {
			return nil, untrusted(fmt.Sprintf("%q is neither a PEM text nor a SHA-256 fingerprint", trust))
		}
		// The fingerprint takes the place of the chain: the certificate is exactly
		// the one that was shown.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(s tls.ConnectionState) error {
			if got := sha256.Sum256(s.PeerCertificates[0].Raw); !bytes.Equal(got[:], want) {
				return untrusted("the appliance shows a certificate with the SHA-256 fingerprint " + spelled(got) + ", which is not the one that was given")
			}
			return nil
		}
	}
	transport := &http.Transport{TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: connectTime}).DialContext,
		TLSHandshakeTimeout: connectTime, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	return &Client{base: base, token: token, http: &http.Client{Transport: transport}}, nil
}

func untrusted(cause string) error {
	return &replication.Problem{Code: "client.trust", Cause: cause, Effect: "nothing was sent to it",
		Action: "give the fingerprint that the daemon printed at its start, or its CA (--ca or RIPARO_CA)", Remedy: replication.Stop}
}

// spelled is a fingerprint as the daemon prints it and people compare it.
func spelled(sum [sha256.Size]byte) string {
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum)), " ", ":")
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call does one request. in and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	response, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the answer to %s %s: %w", method, path, err)
	}
	return nil
}

type onceKey struct{}

// WithKey gives the context of a call that may be sent more than once and is to be done
// once: each time with the same key. A key is for one call.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, onceKey{}, key)
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	target := c.base.JoinPath(path)
	target.RawQuery = query.Encode()
	var content io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("write the request %s %s: %w", method, path, err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), content)
	if err != nil {
		return nil, fmt.Errorf("make the request %s %s: %w", method, path, err)
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if key, ok := ctx.Value(onceKey{}).(string); ok && method == http.MethodPost {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode >= 400 {
		defer response.Body.Close()
		return nil, problemIn(response)
	}
	return response, nil
}

// unreachable tells why there was no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if p, ok := errors.AsType[*replication.Problem](err); ok {
		return p
	}
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		p := untrusted(fmt.Sprintf("the certificate of %s is not trusted: %v", c.base.Host, refused.Err)).(*replication.Problem)
		p.Err = err
		if shown := refused.UnverifiedCertificates; len(shown) > 0 {
			fingerprint := spelled(sha256.Sum256(shown[0].Raw))
			p.Cause += "; its SHA-256 fingerprint is " + fingerprint
			p.Action = "compare that with what the daemon printed at its start; if it is the same, give it: --ca " + fingerprint + " (or RIPARO_CA)"
		}
		return p
	}
	// Only a connection that never was is sure to have asked for nothing.
	effect := "it is not known whether it did what was asked"
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		effect = "nothing was asked of it"
	}
	return &replication.Problem{Code: "client.unreachable", Err: err, Effect: effect, Cause: fmt.Sprintf("the appliance at %s cannot be reached: %v", c.base.Host, innermost(err)),
		Action: "see that the daemon runs (riparo serve) and that the address is right (--url or RIPARO_URL)", Remedy: replication.Retry}
}

func innermost(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// problemIn reads the problem of an answer.
func problemIn(r *http.Response) error {
	var told struct {
		Problem
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	text, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err := json.Unmarshal(text, &told); err != nil || told.Status == 0 {
		return &replication.Problem{Code: "client.answer", Cause: fmt.Sprintf("the appliance answered %s", r.Status),
			Action: "see that the address is that of a Riparo appliance", Remedy: replication.Stop}
	}
	p := &replication.Problem{Code: told.Code, Cause: told.Cause, Effect: told.Effect, Action: told.Action, Remedy: replication.Stop}
	switch told.Remedy {
	case "retry":
		p.Remedy = replication.Retry
	case "resynchronize":
		p.Remedy = replication.Resync
	}
	if p.Cause == "" { // huma found something wrong with the request itself
		p.Code, p.Cause = "request.invalid", told.Detail
		for _, e := range told.Errors {
			p.Cause += fmt.Sprintf("; %s: %s", e.Location, e.Message)
		}
	}
	if r.StatusCode == http.StatusNotFound {
		p.Err = store.ErrNotFound
	}
	return p
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.call(ctx, http.MethodGet, path, query, nil, &out)
	return out, err
}

// segment is a part of a path.
func segment(s string) string { return url.PathEscape(s) }

func queryOf(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
