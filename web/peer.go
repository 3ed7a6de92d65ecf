package web

import (
	"net/http"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// peerAsk shows who answers at an address, to be compared and confirmed.
func peerAsk(v visit, p api.Peer) *view.PeerAsk {
	w := v.words
	a := &view.PeerAsk{Now: v.now, Fingerprint: p.Fingerprint, Title: w.T("peer.ask"), Tip: w.T("peer.tip-ssh"), Facts: []view.Fact{{Label: w.T("peer.host"), Value: p.Host, Across: true}}}
	if p.Changed {
		a.Title = w.T("peer.ask-changed")
	}
	if p.Kind != "x509" {
		a.Facts[0].Note = p.Kind
	} else {
		a.Tip = w.T("peer.tip-tls")
		period := view.Fact{Label: w.T("peer.valid"), Value: w.T("peer.from-until", "From", w.Date(p.Begins), "Until", w.Date(p.Ends)), Across: true}
		if v.now.Before(p.Begins) || v.now.After(p.Ends) {
			period.Tone = view.Bad
		}
		a.Facts = append(a.Facts, view.Fact{Label: w.T("peer.subject"), Value: p.Subject, Across: true}, view.Fact{Label: w.T("peer.issuer"), Value: p.Issuer, Across: true}, period)
		if p.Doubt != "" {
			a.Facts = append(a.Facts, view.Fact{Label: w.T("peer.doubt"), Value: w.T("peer.doubt-" + p.Doubt), Tone: view.Warn, Across: true})
		}
	}
	a.Facts = append(a.Facts, view.Fact{Label: w.T("certificate.fingerprint"), Value: p.Fingerprint, Across: true, Bytes: true})
	return a
}

// peerToConfirm is who answers at the address of a site that is being added, when a
// person has to say who that is.
func (k *Console) peerToConfirm(v visit, s store.Site) *view.PeerAsk {
	s.Fingerprint = ""
	p, err := k.Appliance.Peer(v.ctx, s)
	if err != nil || p == nil || p.Known {
		return nil // what is wrong with the address is told by who adds it
	}
	return peerAsk(v, *p)
}

// confirmed is the fingerprint that a form confirms.
func confirmed(r *http.Request) string {
	if r.PostFormValue("trust") != "yes" {
		return ""
	}
	return r.PostFormValue("fingerprint")
}

// siteTrust shows who answers at the address of a site now, and asks whether that is
// right.
func (k *Console) siteTrust(v visit) (built, error) { return k.siteTrustWith(v, nil) }

func (k *Console) siteTrustWith(v visit, problem error) (built, error) {
	w := v.words
	t := view.SiteTrust{Name: v.id, Action: "/infrastructure/" + pathSegment(v.id) + "/trust"}
	p, err := k.Appliance.SitePeer(v.ctx, v.id)
	b := built{title: w.T("peer.confirm"), place: "infrastructure"}
	switch {
	case err != nil && replication.AsProblem(err).Code != "peer.silent":
		return built{}, err
	case err != nil:
		m := messageOf(w, replication.AsProblem(err))
		t.Problem = &m
	case p == nil:
		t.Problem = &view.Message{Tone: view.Info, Cause: w.T("peer.none")}
	case p.Known:
		t.Problem = &view.Message{Tone: view.OK, Cause: w.T("peer.known")}
		t.Peer = peerAsk(v, *p)
	default:
		t.Peer, t.Ask = peerAsk(v, *p), true
	}
	if problem != nil {
		m := messageOf(w, replication.AsProblem(problem))
		t.Problem, b.status = &m, http.StatusConflict
	}
	b.body = view.SiteTrustPage(t)
	return b, nil
}

func (k *Console) trustSite(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	v.id = r.PathValue("name")
	var err error = &replication.Problem{Code: "peer.unknown", Cause: "nobody said that the fingerprint was compared", Effect: "nothing was changed",
		Action: "compare the fingerprint with what the host itself says, and confirm it", Remedy: replication.Stop}
	if print := confirmed(r); print != "" {
		err = k.Appliance.TrustSite(r.Context(), v.user.Name, v.id, print)
	}
	if err == nil {
		k.back(w, r, "/infrastructure")
		return
	}
	b, pageErr := k.siteTrustWith(v, err)
	if pageErr != nil {
		k.fail(w, r, pageErr)
		return
	}
	k.print(w, v, b)
}
