package web

import (
	"net/http"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/view"
)

// siteKinds are the kinds of places that can be added here.
var siteKinds = []string{"kvm-libvirt", "kvm-qmp", "lab"}

func (k *Console) infrastructure(v visit) (built, error) {
	w := v.words
	i := view.Infrastructure{Now: v.now, CanAdd: v.may("POST /infrastructure"), Vault: k.vaultCard(v),
		Empty: view.Empty{Icon: "infrastructure", Title: w.T("machines.no-sites"), Text: w.T("machines.no-sites-text")}}
	r, err := k.records()
	if err != nil {
		return built{}, err
	}
	sites, err := k.Appliance.Discovered(v.ctx, false)
	if err != nil {
		return built{}, err
	}
	for _, s := range sites {
		i.Sites = append(i.Sites, siteCard(v, r, s))
	}
	i.Kept = k.keptCard(v)
	i.Map = mapOf(v, r, k.report(v), sites, i.Vault)
	return built{title: w.T("infrastructure.title"), place: "infrastructure", body: view.InfrastructurePage(i), live: true, on: []string{"site/", "machine/", "kept/", "report"},
		parts: []part{{"infrastructure-map", view.InfrastructureMap(i.Map)}, {"infrastructure-vault", view.InfrastructureVault(i)}, {"infrastructure-kept", view.InfrastructureKept(i)}, {"infrastructure-sites", view.InfrastructureSites(i)}}}, nil
}

func siteCard(v visit, r records, s DiscoveredSite) view.SiteCard {
	w := v.words
	c := view.SiteCard{Name: s.Site.Name, Kind: w.Named("site-kind", s.Site.Kind), Address: s.Site.Address, Emulated: s.About.Emulated, Seen: s.Seen}
	c.State = siteBadge(w, s)
	if s.Problem != nil {
		c.Problem = &view.Finding{Tone: view.Bad, Cause: sentence(w.Said(s.Problem.Cause)), Effect: sentence(w.Said(s.Problem.Effect)), Action: sentence(w.Said(s.Problem.Action))}
	}
	uses := 0
	for _, m := range r.machines {
		if m.Source.Site == s.Site.Name || m.Target.Site == s.Site.Name {
			uses++
		}
	}
	c.Facts = []view.Fact{{Label: w.T("machines.title"), Value: w.Int(int64(len(s.Machines)))}, {Label: w.T("site.protected"), Value: w.Int(int64(len(s.Protects)))},
		{Label: w.T("seen"), Value: w.Short(s.Seen, v.now)}}
	for _, n := range s.Networks {
		name := n.Name
		if n.Isolated {
			name += " · " + w.T("network.isolated")
		}
		c.Networks = append(c.Networks, name)
	}
	if print := s.Site.Fingerprint; print != "" {
		c.Facts = append(c.Facts, view.Fact{Label: w.T("peer.pinned"), Value: print, Across: true})
	}
	if p := s.Problem; v.may("POST /infrastructure/{name}/trust") && p != nil && (p.Code == "peer.changed" || p.Code == "peer.unknown") {
		c.Trust = &view.Action{Href: "/infrastructure/" + pathSegment(s.Site.Name) + "/trust", Text: w.T("peer.look"), Icon: "shield", Kind: "small primary", Dialog: true}
	}
	if v.may("POST /infrastructure/{name}/remove") && uses == 0 {
		c.Remove = &view.Action{Href: "/infrastructure/" + pathSegment(s.Site.Name) + "/remove", Text: w.T("remove"), Icon: "remove", Kind: "small", Dialog: true}
	}
	return c
}

func (k *Console) vaultCard(v visit) view.VaultCard {
	w := v.words
	u, err := k.vault(v)
	if err != nil {
		p := replication.AsProblem(err)
		return view.VaultCard{Problem: sentence(w.Said(p.Cause))}
	}
	c := view.VaultCard{Facts: []view.Fact{
		{Label: w.T("vault.stored"), Value: w.Bytes(u.StoredBytes)}, {Label: w.T("vault.logical"), Value: w.Bytes(u.LogicalBytes), Note: w.T("vault.logical-note")},
		{Label: w.T("vault.free"), Value: freeBytes(w, u)}, {Label: w.T("fact.points"), Value: w.Int(int64(u.Points))}}}
	c.Scrub, c.Rot = k.scrubFacts(v)
	if u.Clock != nil {
		c.Rot = append([]view.Finding{findingOf(w, *u.Clock)}, c.Rot...)
		c.CanConfirm = v.may("POST /infrastructure/clock")
	}
	c.CanRead = v.may("POST /infrastructure/scrub")
	if share, known := vaultShare(u); known {
		c.Known, c.Percent, c.Tone = true, int(share*100), vaultTone(share)
		decimals := 0
		if share < 0.1 {
			decimals = 1
		}
		c.Text = w.T("vault.of-volume", "Percent", w.Number(share*100, decimals))
	}
	return c
}

// vaultShare is how much of what the volume could hold the vault has taken.
func vaultShare(u VaultUsage) (share float64, known bool) {
	if u.FreeBytes < 0 || u.StoredBytes+u.FreeBytes <= 0 {
		return 0, false
	}
	return float64(u.StoredBytes) / float64(u.StoredBytes+u.FreeBytes), true
}

// Watermarks of the vault, as journals of the field have them.
const (
	vaultWarn = 0.75
	vaultBad  = 0.85
)

func vaultTone(share float64) view.Tone {
	switch {
	case share >= vaultBad:
		return view.Bad
	case share >= vaultWarn:
		return view.Warn
	}
	return view.Plain
}

func (k *Console) siteForm(v visit) (built, error) {
	return k.siteFormWith(v, store.Site{}, nil), nil
}

func (k *Console) siteFormWith(v visit, s store.Site, problem error) built {
	w := v.words
	f := view.SiteForm{Name: s.Name, Kind: s.Kind, Address: s.Address}
	for _, kind := range siteKinds {
		f.Kinds = append(f.Kinds, view.Choice{Value: kind, Text: w.Named("site-kind", kind), Selected: kind == s.Kind})
	}
	b := built{title: w.T("site.add"), place: "infrastructure"}
	if problem != nil {
		m := messageOf(w, replication.AsProblem(problem))
		f.Problem, b.status = &m, http.StatusConflict
		f.Peer = k.peerToConfirm(v, s)
	}
	b.body = view.SiteFormPage(f)
	return b
}

func (k *Console) addSite(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	s := store.Site{Name: strings.TrimSpace(r.PostFormValue("name")), Kind: r.PostFormValue("kind"), Address: strings.TrimSpace(r.PostFormValue("address")), Fingerprint: confirmed(r), Created: k.Now()}
	if err := k.Appliance.AddSite(r.Context(), v.user.Name, s); err != nil {
		k.print(w, v, k.siteFormWith(v, s, err))
		return
	}
	k.back(w, r, "/infrastructure")
}

func (k *Console) siteRemoval(v visit) (built, error) {
	w := v.words
	var site store.Site
	err := k.Store.View(func(tx *store.Tx) (err error) {
		site, err = tx.Sites().Get(v.id)
		return err
	})
	if err != nil {
		return built{}, err
	}
	a := view.Ask{Title: w.T("site.remove"), Name: site.Name, Lead: w.T("site.remove-lead"), Action: "/infrastructure/" + pathSegment(site.Name) + "/remove",
		Back: "/infrastructure", Submit: w.T("remove"), Icon: "remove", Kind: "danger"}
	return built{title: w.T("site.remove"), place: "infrastructure", body: view.AskPage(a)}, nil
}

func (k *Console) removeSite(w http.ResponseWriter, r *http.Request) {
	k.onward(w, r, "/infrastructure", k.Appliance.RemoveSite(r.Context(), userOf(r).Name, r.PathValue("name")))
}

// refreshTime bounds how long a person waits for sites that are away.
const refreshTime = 30 * time.Second

// refresh asks all sites for their machines now.
func (k *Console) refresh(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := contextWithTimeout(r, refreshTime)
	defer cancel()
	_, err := k.Appliance.Discovered(ctx, true)
	k.onward(w, r, local(r.PostFormValue("next")), err)
}
