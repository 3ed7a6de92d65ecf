package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"riparo/replication"
	"riparo/web/api"
)

const fingerprintUsage = "SHA-256 fingerprint of who answers there, after it was compared with what the host itself says"

// addConfirmed adds a site after a person has confirmed who answers there. Where there
// is nobody to ask, the refusal says with which flag it is done.
func (t *terminal) addConfirmed(c *cobra.Command, client *api.Client, site *api.SiteBody, refused error) error {
	peer, err := client.LookAtPeer(c.Context(), api.PeerBody{Address: site.Address})
	if err != nil {
		return err
	}
	if !t.confirmed(peer) {
		return withFlag(refused, peer)
	}
	site.Fingerprint = peer.Fingerprint
	return client.AddSite(c.Context(), *site)
}

// withFlag tells with which flag a peer is confirmed.
func withFlag(refused error, peer api.Peer) error {
	p := *replication.AsProblem(refused)
	p.Action = fmt.Sprintf("compare the fingerprint with what the host itself says, and give it: --fingerprint %s", peer.Fingerprint)
	return &p
}

// confirmed shows who answers and asks the person at the terminal; without one it is no.
func (t *terminal) confirmed(peer api.Peer) bool {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false
	}
	printPeer(t.err, peer)
	fmt.Fprint(t.err, "Is this the right host? Compare the fingerprint with what the host itself says. [yes/no] ")
	answer, err := bufio.NewReader(io.LimitReader(os.Stdin, maxPassword)).ReadString('\n')
	return err == nil && strings.EqualFold(strings.TrimSpace(answer), "yes")
}

func printPeer(w io.Writer, p api.Peer) {
	fmt.Fprintf(w, "answers      %s (%s)\n", p.Host, p.Kind)
	if p.Subject != "" || p.Issuer != "" {
		fmt.Fprintf(w, "subject      %s\nissuer       %s\nvalid        %s to %s\n", p.Subject, p.Issuer, p.Begins.Local().Format(time.DateOnly), p.Ends.Local().Format(time.DateOnly))
	}
	doubts := map[string]string{"authority": "no authority that the appliance knows issued it", "name": "it was issued for another name", "period": "it is not valid yet, or no more", "other": "it does not fit its use"}
	if text := doubts[p.Doubt]; text != "" {
		fmt.Fprintf(w, "doubt        %s\n", text)
	}
	fmt.Fprintf(w, "fingerprint  SHA-256 %s\n", strings.TrimPrefix(p.Fingerprint, "SHA256:"))
	switch {
	case p.Known:
		fmt.Fprintln(w, "This is who was confirmed, or an authority vouches for it.")
	case p.Changed:
		fmt.Fprintln(w, "This is NOT who was confirmed before.")
	default:
		fmt.Fprintln(w, "Nobody has confirmed it yet.")
	}
}

func newTrustSite(t *terminal, to *connection) *cobra.Command {
	var fingerprint string
	c := &cobra.Command{
		Use:   "trust SITE [--fingerprint SHA256]",
		Short: "Show who answers at a site, and confirm it",
		Long: `Show who answers at the address of a site: the key of an SSH host or the TLS certificate
of a daemon. When it is not who was confirmed before, Riparo does not speak to it until
somebody confirms it: on a terminal by answering, and otherwise with --fingerprint.`,
		Args: arguments("SITE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				peer, err := client.SitePeer(c.Context(), args[0])
				if err != nil {
					return err
				}
				told := func(done bool) error {
					return t.result(map[string]any{"site": args[0], "peer": peer, "trusted": done}, func(w io.Writer) {
						switch {
						case peer.Host == "":
							fmt.Fprintf(w, "Who answers at site %s shows neither a key nor a certificate.\n", args[0])
						case done:
							fmt.Fprintf(w, "%s is trusted; site %s is contacted with it.\n", peer.Host, args[0])
						default:
							printPeer(w, peer)
						}
					})
				}
				if fingerprint == "" && (peer.Known || peer.Host == "") {
					return told(false)
				}
				if fingerprint == "" {
					if !t.confirmed(peer) {
						code, cause := "peer.unknown", fmt.Sprintf("nobody has confirmed who answers at %s: SHA-256 %s", peer.Host, peer.Fingerprint)
						if peer.Changed {
							code, cause = "peer.changed", fmt.Sprintf("%s is not who was confirmed before: it shows SHA-256 %s", peer.Host, peer.Fingerprint)
						}
						return withFlag(&replication.Problem{Code: code, Cause: cause, Effect: "nothing was sent to it", Remedy: replication.Stop}, peer)
					}
					fingerprint = peer.Fingerprint
				}
				if err := client.TrustSite(c.Context(), args[0], fingerprint); err != nil {
					return err
				}
				return told(true)
			})
		},
	}
	c.Flags().StringVar(&fingerprint, "fingerprint", "", fingerprintUsage)
	return c
}
