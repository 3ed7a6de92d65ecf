package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"riparo/store"
)

// Configuring is how the appliance is set up, in the wizard and later.
type Configuring interface {
	// Setup tells how far the setup is and what is set.
	Setup(ctx context.Context) (Setup, error)
	SaveGeneral(ctx context.Context, actor string, g store.General) error
	SaveProxy(ctx context.Context, actor string, p store.Proxy) error
	InstallCertificate(ctx context.Context, actor string, c NewCertificate) error
	RenewCertificate(ctx context.Context, actor string) error
	// ProbeFolder measures a folder for the vault, and remembers what it found.
	ProbeFolder(ctx context.Context, folder string) (Probe, error)
	// MoveVault uses a folder for the vault. The appliance begins again with it.
	MoveVault(ctx context.Context, actor, folder string) error
	// Peer tells who answers at the address of a site, where that can be asked before
	// signing in; nil: it cannot. TrustPeer keeps it when it shows the fingerprint.
	Peer(ctx context.Context, s store.Site) (*Peer, error)
	// SitePeer tells it of a site that was added, and TrustSite confirms who answers
	// there now.
	SitePeer(ctx context.Context, name string) (*Peer, error)
	TrustSite(ctx context.Context, actor, name, fingerprint string) error
	TrustPeer(ctx context.Context, actor string, s store.Site, fingerprint string) error
	// Check runs one of the prerequisite checks.
	Check(ctx context.Context, id string) (store.Checked, error)
	// StepDone notes that a step of the setup is done; the step "finish" ends it.
	StepDone(ctx context.Context, actor, step string) error
}

// Setup is how far the setup is and what is set.
type Setup struct {
	Progress    store.SetupProgress `json:"progress"`
	General     store.General       `json:"general"`
	Proxy       store.Proxy         `json:"proxy"`
	Certificate Certificate         `json:"certificate"`
	Vault       VaultPlace          `json:"vault"`
	Checks      []string            `json:"checks" nullable:"false" doc:"The prerequisite checks there are."`
	Backup      bool                `json:"backup" doc:"The appliance's own backup has a passphrase and a schedule."`
}

// VaultPlace is where the vault is.
type VaultPlace struct {
	Folder    string `json:"folder"`
	InUse     bool   `json:"in_use" doc:"It holds disks, and stays where it is."`
	MasterKey bool   `json:"master_key" doc:"There is a master key in the folder pki, which a backup holds too."`
}

// Certificate is the certificate that the console shows.
type Certificate struct {
	Own                  bool      `json:"own" doc:"Issued by the appliance's own authority."`
	Subject              string    `json:"subject"`
	Issuer               string    `json:"issuer"`
	Names                []string  `json:"names" nullable:"false"`
	Ends                 time.Time `json:"ends"`
	Fingerprint          string    `json:"fingerprint" doc:"SHA-256"`
	Authority            string    `json:"authority" doc:"PEM of the appliance's own authority."`
	AuthorityFingerprint string    `json:"authority_fingerprint"`
}

// NewCertificate is a certificate that a person brings.
type NewCertificate struct {
	Certificate string `json:"certificate" maxLength:"40000" doc:"PEM, the console's own first."`
	Key         string `json:"key" maxLength:"20000" doc:"PEM."`
	Name        string `json:"name,omitempty" maxLength:"253" doc:"The name that the console is reached under; empty: that of this request."`
}

// Probe is what was measured of a folder.
type Probe struct {
	Folder      string        `json:"folder"`
	WriteSpeed  float64       `json:"write_bytes_per_second"`
	Sync        time.Duration `json:"-"`
	SyncSeconds float64       `json:"sync_seconds"`
	FreeBytes   int64         `json:"free_bytes"`
	TotalBytes  int64         `json:"total_bytes"`
}

// Peer is who answers at an address: an SSH host with its key, or a daemon with its
// TLS certificate.
type Peer struct {
	Host        string    `json:"host" doc:"Empty: who answers there shows neither a key nor a certificate."`
	Kind        string    `json:"kind" doc:"Of the key; x509 for a certificate."`
	Fingerprint string    `json:"fingerprint" doc:"SHA-256"`
	Known       bool      `json:"known" doc:"It is who was confirmed, or an authority vouches for it."`
	Changed     bool      `json:"changed,omitempty" doc:"Somebody else was confirmed before."`
	Subject     string    `json:"subject,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	Begins      time.Time `json:"begins,omitzero"`
	Ends        time.Time `json:"ends,omitzero"`
	Doubt       string    `json:"doubt,omitempty" enum:"authority,name,period,other" doc:"Why no authority vouches for the certificate."`
}

type (
	generalInput struct{ Body store.General }
	proxyInput   struct{ Body store.Proxy }
	newCertInput struct{ Body NewCertificate }
	folderInput  struct{ Body FolderBody }
	peerInput    struct{ Body PeerBody }
	checkInput   struct {
		ID string `path:"id"`
	}
)

// FolderBody names a folder of the appliance.
type FolderBody struct {
	Folder string `json:"folder" minLength:"1" maxLength:"1000"`
}

// PeerBody names a site's address, and the fingerprint that is trusted.
type PeerBody struct {
	Address     string `json:"address" minLength:"1" maxLength:"1000"`
	Fingerprint string `json:"fingerprint,omitempty" maxLength:"200"`
}

func (a *API) configuration() {
	const tag = "Appliance"
	done := func(err error) (*body[Done], error) { return answer(Done{true}, err) }
	add(a, operation{id: "get-setup", method: "GET", path: "/api/v1/settings", tag: tag, summary: "How far the setup is and what is set"},
		func(ctx context.Context, _ *none) (*body[Setup], error) { return answer(a.Appliance.Setup(ctx)) })
	add(a, operation{id: "save-general", method: "PUT", path: "/api/v1/settings/general", tag: tag, summary: "What the appliance is called, and its clock"},
		func(ctx context.Context, in *generalInput) (*body[Done], error) {
			return done(errors.Join(a.Appliance.SaveGeneral(ctx, callerOf(ctx).Name, in.Body), a.step(ctx, "appliance")))
		})
	add(a, operation{id: "save-proxy", method: "PUT", path: "/api/v1/settings/proxy", tag: tag, summary: "How the appliance reaches web services outside"},
		func(ctx context.Context, in *proxyInput) (*body[Done], error) {
			return done(errors.Join(a.Appliance.SaveProxy(ctx, callerOf(ctx).Name, in.Body), a.step(ctx, "network")))
		})
	add(a, operation{id: "install-certificate", method: "PUT", path: "/api/v1/settings/certificate", tag: tag, summary: "Take a certificate into use"},
		func(ctx context.Context, in *newCertInput) (*body[Done], error) {
			return done(a.Appliance.InstallCertificate(ctx, callerOf(ctx).Name, in.Body))
		})
	add(a, operation{id: "renew-certificate", method: "POST", path: "/api/v1/settings/certificate/renew", tag: tag, summary: "Issue a certificate by the appliance's own authority"},
		func(ctx context.Context, _ *none) (*body[Done], error) {
			return done(a.Appliance.RenewCertificate(ctx, callerOf(ctx).Name))
		})
	add(a, operation{id: "probe-folder", method: "POST", path: "/api/v1/settings/vault/probe", tag: tag, summary: "Measure a folder for the vault by writing to it"},
		func(ctx context.Context, in *folderInput) (*body[Probe], error) {
			return answer(a.Appliance.ProbeFolder(ctx, in.Body.Folder))
		})
	add(a, operation{id: "move-vault", method: "PUT", path: "/api/v1/settings/vault", tag: tag, summary: "Use a folder for the vault; the appliance begins again with it"},
		func(ctx context.Context, in *folderInput) (*body[Done], error) {
			return done(a.Appliance.MoveVault(ctx, callerOf(ctx).Name, in.Body.Folder))
		})
	add(a, operation{id: "look-at-peer", method: "POST", path: "/api/v1/settings/peer", tag: tag, summary: "Who answers at the address of a site; with a fingerprint, trust it"},
		func(ctx context.Context, in *peerInput) (*body[Peer], error) {
			site := store.Site{Address: in.Body.Address}
			if in.Body.Fingerprint != "" {
				if err := a.Appliance.TrustPeer(ctx, callerOf(ctx).Name, site, in.Body.Fingerprint); err != nil {
					return nil, err
				}
			}
			p, err := a.Appliance.Peer(ctx, site)
			if p == nil {
				p = &Peer{}
			}
			return answer(*p, err)
		})
	add(a, operation{id: "check", method: "POST", path: "/api/v1/checks/{id}", tag: tag, summary: "Run one of the prerequisite checks"},
		func(ctx context.Context, in *checkInput) (*body[store.Checked], error) {
			return answer(a.Appliance.Check(ctx, in.ID))
		})
	add(a, operation{id: "finish-step", method: "POST", path: "/api/v1/settings/steps/{id}", tag: tag, summary: "Note that a step of the setup is done; finish ends it"},
		func(ctx context.Context, in *checkInput) (*body[Done], error) { return done(a.step(ctx, in.ID)) })
}

func (a *API) step(ctx context.Context, step string) error {
	if !slices.Contains(SetupSteps, step) {
		return refused("setup.step", "the setup has no step "+step, "choose among "+strings.Join(SetupSteps, ", "))
	}
	return a.Appliance.StepDone(ctx, callerOf(ctx).Name, step)
}

// SetupSteps are the steps of the setup in their order.
var SetupSteps = []string{"appliance", "network", "certificate", "roles", "vault", "site", "target", "policy", "checks", "finish"}

// Settings tells how far the setup is and what is set.
func (c *Client) Settings(ctx context.Context) (Setup, error) {
	return get[Setup](ctx, c, "/api/v1/settings", nil)
}

// SaveGeneral says what the appliance is called, and its clock.
func (c *Client) SaveGeneral(ctx context.Context, g store.General) error {
	return c.call(ctx, http.MethodPut, "/api/v1/settings/general", nil, g, nil)
}

// SaveProxy says how the appliance reaches web services outside.
func (c *Client) SaveProxy(ctx context.Context, p store.Proxy) error {
	return c.call(ctx, http.MethodPut, "/api/v1/settings/proxy", nil, p, nil)
}

// InstallCertificate takes a certificate into use.
func (c *Client) InstallCertificate(ctx context.Context, n NewCertificate) error {
	return c.call(ctx, http.MethodPut, "/api/v1/settings/certificate", nil, n, nil)
}

// ProbeFolder measures a folder for the vault.
func (c *Client) ProbeFolder(ctx context.Context, folder string) (Probe, error) {
	var p Probe
	err := c.call(ctx, http.MethodPost, "/api/v1/settings/vault/probe", nil, FolderBody{folder}, &p)
	return p, err
}

// MoveVault uses a folder for the vault; the appliance begins again with it.
func (c *Client) MoveVault(ctx context.Context, folder string) error {
	return c.call(ctx, http.MethodPut, "/api/v1/settings/vault", nil, FolderBody{folder}, nil)
}

// LookAtPeer tells who answers at an address; with a fingerprint it is trusted.
func (c *Client) LookAtPeer(ctx context.Context, b PeerBody) (Peer, error) {
	var p Peer
	err := c.call(ctx, http.MethodPost, "/api/v1/settings/peer", nil, b, &p)
	return p, err
}

// Check runs one of the prerequisite checks.
func (c *Client) Check(ctx context.Context, id string) (store.Checked, error) {
	var out store.Checked
	err := c.call(ctx, http.MethodPost, "/api/v1/checks/"+segment(id), nil, nil, &out)
	return out, err
}

// StepDone notes that a step of the setup is done.
func (c *Client) StepDone(ctx context.Context, step string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/settings/steps/"+segment(step), nil, nil, nil)
}
