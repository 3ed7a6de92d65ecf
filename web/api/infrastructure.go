package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
)

// About says what answers.
type About struct {
	Version string     `json:"version"`
	Time    time.Time  `json:"time"`
	User    string     `json:"user" doc:"Who asks."`
	Role    store.Role `json:"role"`
}

// Figures is the report of replication: all machines at one moment.
type Figures struct {
	Time          time.Time                                `json:"time"`
	SentPerSecond float64                                  `json:"sent_bytes_per_second"`
	Throughput    []float64                                `json:"throughput" nullable:"false" doc:"Bytes per second, oldest first, one sample every sample_seconds."`
	SampleSeconds float64                                  `json:"sample_seconds"`
	Machines      map[replication.MachineID]MachineFigures `json:"machines"`
}

// MachineFigures are those of one machine.
type MachineFigures struct {
	Activity
	RPOSeconds *float64   `json:"rpo_seconds" doc:"Age of the newest recovery point; null when unknown."`
	RPO        []*float64 `json:"rpo" nullable:"false" doc:"Its history in seconds, oldest first; null where unknown."`
}

// Discovered is a site and its machines as last seen.
type Discovered struct {
	Site     store.Site                `json:"site"`
	About    hypervisor.Description    `json:"about"`
	Seen     time.Time                 `json:"seen"`
	Machines []hypervisor.Machine      `json:"machines" nullable:"false"`
	Networks []hypervisor.Network      `json:"networks" nullable:"false"`
	Problem  *Problem                  `json:"problem,omitempty"`
	Protects map[hypervisor.Ref]string `json:"protects,omitempty" doc:"The machine IDs of those that are protected already."`
}

// SiteBody adds a site.
type SiteBody struct {
	Name    string `json:"name" minLength:"1" maxLength:"64"`
	Kind    string `json:"kind" enum:"lab,kvm-qmp,kvm-libvirt"`
	Address string `json:"address" minLength:"1" maxLength:"1000" doc:"A folder for lab and kvm-qmp, a libvirt URI for kvm-libvirt."`
	// Fingerprint of who answers there, which the caller has compared.
	Fingerprint string `json:"fingerprint,omitempty" maxLength:"200" doc:"SHA-256 fingerprint of the SSH key or of the TLS certificate that answers there, once somebody compared it. Needed when no authority vouches for the certificate, or the key is not known."`
}

// TrustBody confirms who answers.
type TrustBody struct {
	Fingerprint string `json:"fingerprint" minLength:"1" maxLength:"200" doc:"SHA-256 fingerprint that was compared with what the host itself says."`
}

type nameInput struct {
	Name string `path:"name"`
}

type siteInput struct{ Body SiteBody }

type trustInput struct {
	Name string `path:"name"`
	Body TrustBody
}

func (a *API) infrastructure() {
	const tag = "Infrastructure"
	add(a, operation{id: "about", method: "GET", path: "/api/v1/about", tag: tag, summary: "The appliance, and who asks"},
		func(ctx context.Context, _ *none) (*body[About], error) {
			c := callerOf(ctx)
			return answer(About{Version: a.Version, Time: a.Now(), User: c.Name, Role: c.Role}, nil)
		})
	add(a, operation{id: "report", method: "GET", path: "/api/v1/report", tag: tag, summary: "The figures of replication now and during the last hour"},
		func(ctx context.Context, in *pageInput) (*body[Figures], error) {
			r := a.Appliance.Report()
			r.Machines = pageOf(r.Machines, replication.MachineID(in.After), in.Limit)
			return answer(figures(r), nil)
		})
	add(a, operation{id: "vault", method: "GET", path: "/api/v1/vault", tag: tag, summary: "How full the vault is"},
		func(ctx context.Context, _ *none) (*body[VaultUsage], error) { return answer(a.Appliance.Vault(ctx)) })
	add(a, operation{id: "list-discovered", method: "GET", path: "/api/v1/discovered", tag: tag, summary: "The machines of all sites as last seen"},
		func(ctx context.Context, _ *none) (*body[[]Discovered], error) { return a.discovered(ctx, false) })
	add(a, operation{id: "refresh-discovered", method: "POST", path: "/api/v1/discovered/refresh", tag: tag, summary: "Ask all sites for their machines now"},
		func(ctx context.Context, _ *none) (*body[[]Discovered], error) { return a.discovered(ctx, true) })
	add(a, operation{id: "list-sites", method: "GET", path: "/api/v1/sites", tag: tag, summary: "All sites"}, a.listSites)
	add(a, operation{id: "add-site", method: "POST", path: "/api/v1/sites", tag: tag, summary: "Add a site; it is contacted first", status: http.StatusCreated},
		func(ctx context.Context, in *siteInput) (*body[Done], error) {
			site := store.Site{Name: in.Body.Name, Kind: in.Body.Kind, Address: in.Body.Address, Fingerprint: in.Body.Fingerprint}
			return answer(Done{true}, a.Appliance.AddSite(ctx, callerOf(ctx).Name, site))
		})
	add(a, operation{id: "remove-site", method: "DELETE", path: "/api/v1/sites/{name}", tag: tag, summary: "Remove a site that nothing uses"},
		func(ctx context.Context, in *nameInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.RemoveSite(ctx, callerOf(ctx).Name, in.Name))
		})
	add(a, operation{id: "site-peer", method: "GET", path: "/api/v1/sites/{name}/peer", tag: tag, summary: "Who answers at the address of a site, and whether that is who was confirmed"},
		func(ctx context.Context, in *nameInput) (*body[Peer], error) {
			p, err := a.Appliance.SitePeer(ctx, in.Name)
			if p == nil {
				p = &Peer{}
			}
			return answer(*p, err)
		})
	add(a, operation{id: "trust-site", method: "POST", path: "/api/v1/sites/{name}/trust", tag: tag, summary: "Confirm who answers at the address of a site, in the place of who was confirmed before"},
		func(ctx context.Context, in *trustInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.TrustSite(ctx, callerOf(ctx).Name, in.Name, in.Body.Fingerprint))
		})
}

// pageOf gives up to limit machines after one, by ID. What it is given stays as it is.
func pageOf[V any](all map[replication.MachineID]V, after replication.MachineID, limit int) map[replication.MachineID]V {
	page := map[replication.MachineID]V{}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if id > after && len(page) < limit {
			page[id] = all[id]
		}
	}
	return page
}

func (a *API) discovered(ctx context.Context, refresh bool) (*body[[]Discovered], error) {
	sites, err := a.Appliance.Discovered(ctx, refresh)
	list := []Discovered{}
	for _, s := range sites {
		d := Discovered{Site: s.Site, About: s.About, Seen: s.Seen, Machines: s.Machines, Networks: s.Networks, Protects: s.Protects}
		if d.Machines == nil {
			d.Machines = []hypervisor.Machine{}
		}
		if d.Networks == nil {
			d.Networks = []hypervisor.Network{}
		}
		if s.Problem != nil {
			d.Problem = told(http.StatusServiceUnavailable, s.Problem)
		}
		list = append(list, d)
	}
	return answer(list, err)
}

func (a *API) listSites(ctx context.Context, _ *none) (*body[[]store.Site], error) {
	list := []store.Site{}
	err := a.Store.View(func(tx *store.Tx) error {
		for s, err := range tx.Sites().All() {
			if err != nil {
				return err
			}
			list = append(list, s)
		}
		return nil
	})
	return answer(list, err)
}

func figures(r Report) Figures {
	f := Figures{Time: r.Time, SentPerSecond: r.SentPerSecond, Throughput: r.Throughput, SampleSeconds: SampleEvery.Seconds(),
		Machines: map[replication.MachineID]MachineFigures{}}
	if f.Throughput == nil {
		f.Throughput = []float64{}
	}
	for id, m := range r.Machines {
		mf := MachineFigures{RPO: []*float64{}, Activity: Activity{Text: m.Activity, DoneBytes: m.Done, TotalBytes: m.Total,
			SentPerSecond: m.SentPerSecond, LastCycleSeconds: m.LastCycle.Seconds(), LastCycleBytes: m.LastBytes, NextCycle: m.NextCycle}}
		if !m.PointTime.IsZero() {
			seconds := max(0, r.Time.Sub(m.PointTime).Seconds())
			mf.RPOSeconds = &seconds
		}
		for _, s := range m.RPO {
			if s < 0 {
				mf.RPO = append(mf.RPO, nil)
				continue
			}
			mf.RPO = append(mf.RPO, &s)
		}
		f.Machines[id] = mf
	}
	return f
}
