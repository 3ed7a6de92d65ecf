package appliance

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"riparo/appliance/setup"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// knownHosts are the files of SSH hosts that sites may be: ours, and the user's.
func (a *Appliance) knownHosts() []string {
	files := []string{filepath.Join(a.config.Data, "pki", "known_hosts")}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".ssh", "known_hosts"))
	}
	return files
}

// Peer tells who answers at the address of a site, and whether that is who was
// confirmed.
func (a *Appliance) Peer(ctx context.Context, s store.Site) (*api.Peer, error) {
	p, err := a.peer(ctx, s)
	if p == nil || err != nil {
		return nil, err
	}
	return &api.Peer{Host: p.Host, Kind: p.Kind, Fingerprint: p.Fingerprint, Known: p.Known, Changed: p.Changed,
		Subject: p.Subject, Issuer: p.Issuer, Begins: p.Begins, Ends: p.Ends, Doubt: p.Doubt}, nil
}

// SitePeer tells the same of a site that was added.
func (a *Appliance) SitePeer(ctx context.Context, name string) (*api.Peer, error) {
	s, err := a.site(name)
	if err != nil {
		return nil, err
	}
	return a.Peer(ctx, s)
}

func (a *Appliance) site(name string) (s store.Site, err error) {
	err = a.store.View(func(tx *store.Tx) error {
		s, err = tx.Sites().Get(name)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = replication.Stopf("site.unknown", "choose one of the sites under Infrastructure", "there is no site %q", name)
	}
	return s, err
}

func (a *Appliance) peer(ctx context.Context, s store.Site) (*setup.Peer, error) {
	if u, err := url.Parse(s.Address); err == nil && u.Query().Get("known_hosts") != "" {
		return nil, nil // the address says itself who may answer
	}
	return setup.LookAt(ctx, s.Address, s.Fingerprint, a.knownHosts()...)
}

// TrustPeer keeps the SSH host that answers at an address, when it is the one that was
// confirmed. A certificate is compared only: it is kept by the site.
func (a *Appliance) TrustPeer(ctx context.Context, actor string, s store.Site, fingerprint string) error {
	s.Fingerprint = fingerprint
	return a.admit(ctx, actor, &s, "nothing was changed")
}

// admit sees to it that who answers at the address of a new site is known, or is who a
// person confirmed by the fingerprint in the record. A certificate that was confirmed
// stays in the record.
func (a *Appliance) admit(ctx context.Context, actor string, s *store.Site, otherwise string) error {
	confirmed := strings.TrimSpace(s.Fingerprint)
	s.Fingerprint = ""
	p, err := a.peer(ctx, *s)
	switch {
	case err != nil:
		return err
	case p == nil && confirmed == "":
		return nil
	case p == nil:
		return &replication.Problem{Code: "peer.none", Cause: fmt.Sprintf("who answers at %s cannot be told by a fingerprint", s.Address), Effect: otherwise,
			Action: "leave the fingerprint out: only addresses with qemu+ssh or qemu+tls have one", Remedy: replication.Stop}
	case confirmed == "" && p.Known:
		return nil
	case confirmed == "":
		return p.Refusal(otherwise)
	}
	return a.confirm(actor, p, s, confirmed, otherwise)
}

// confirm keeps a peer, when it still is the one that the person saw.
func (a *Appliance) confirm(actor string, p *setup.Peer, s *store.Site, fingerprint, otherwise string) error {
	if !p.Is(fingerprint) {
		return &replication.Problem{Code: "peer.changed", Cause: fmt.Sprintf("%s shows the fingerprint %s now", p.Host, p.Fingerprint), Effect: otherwise,
			Action: "compare it with what the host itself says, and confirm again", Remedy: replication.Stop}
	}
	if p.Certificate() {
		s.Fingerprint = p.Fingerprint
	} else if p.Known {
		return nil
	} else if err := p.Trust(a.knownHosts()[0]); err != nil {
		return err
	}
	return a.store.Update(func(tx *store.Tx) error {
		return tx.AddEvent(store.Event{Severity: store.SeverityWarning, Code: "peer.trusted", Text: fmt.Sprintf("%s with the fingerprint %s was trusted by %s", p.Host, p.Fingerprint, actor),
			Args: map[string]string{"host": p.Host, "fingerprint": p.Fingerprint, "actor": actor}})
	})
}

// TrustSite confirms who answers now at the address of a site, in the place of who was
// confirmed before. The site is contacted anew.
//
// Problems: peer.changed, peer.none, peer.elsewhere, site.unknown.
func (a *Appliance) TrustSite(ctx context.Context, actor, name, fingerprint string) error {
	s, err := a.site(name)
	if err != nil {
		return err
	}
	p, err := a.peer(ctx, s)
	if err == nil && p == nil {
		return a.admit(ctx, actor, &store.Site{Address: s.Address, Fingerprint: fingerprint}, "nothing was changed")
	}
	if err == nil {
		err = a.confirm(actor, p, &s, fingerprint, "nothing was changed")
	}
	if err != nil {
		return err
	}
	err = a.store.Update(func(tx *store.Tx) error {
		now, err := tx.Sites().Get(name)
		if err != nil {
			return err
		}
		api.AuditOf(ctx).Change(now, s)
		now.Fingerprint = s.Fingerprint
		s = now
		return tx.Sites().Put(now)
	})
	if err == nil {
		a.sites.Reopen(s)
	}
	return err
}
