package web

import (
	"fmt"

	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/view"
)

// traffic is what goes on between one site and the appliance.
type traffic struct {
	source, sends, shelters int // machines
	rate                    float64
	worst                   view.Tone
}

// mapOf draws how machines are replicated between sites, from what the records and
// the report say. A site keeps its place when machines fail over.
func mapOf(v visit, r records, rep Report, sites []DiscoveredSite, vault view.VaultCard) view.Map {
	w := v.words
	all := map[string]*traffic{}
	of := func(site string) *traffic {
		if all[site] == nil {
			all[site] = &traffic{worst: view.OK}
		}
		return all[site]
	}
	for _, m := range r.machines {
		here, there := m.Source.Site, m.Target.Site
		if m.Failover != nil || m.Direction == lifecycle.Reverse {
			here, there = there, here
		}
		of(m.Source.Site).source++
		runs, waits := of(here), of(there)
		age, known := rpo(m, rep.Machines[m.ID], v.now)
		tone := mapTone(m, counted(m) && r.late(m, age, known))
		rate := rep.Machines[m.ID].SentPerSecond
		runs.rate += rate
		if counted(m) || rate > 0 { // also the initial replication
			runs.sends++
		}
		if counted(m) {
			waits.shelters++
		}
		runs.worst, waits.worst = worse(runs.worst, tone), worse(waits.worst, tone)
	}
	var picture view.Map
	for _, s := range sites {
		t := of(s.Site.Name)
		site := view.MapSite{Name: s.Site.Name, Href: address("/machines", "q", s.Site.Name), Kind: w.Named("site-kind", s.Site.Kind), State: siteBadge(w, s), Link: t.worst}
		if t.sends+t.shelters == 0 && t.worst == view.OK {
			site.Link = view.Mute
		}
		if s.Problem != nil {
			site.Link = view.Bad
		}
		if t.sends > 0 {
			site.Sends = w.N("map.sends", t.sends, "Rate", w.Rate(t.rate))
		}
		if t.shelters > 0 {
			site.Shelters = w.N("map.shelters", t.shelters)
		}
		left := t.source > 0
		if t.rate > 0 {
			site.Flow = view.ToLeft
			if left {
				site.Flow = view.ToRight
			}
		}
		if left {
			picture.Left = append(picture.Left, site)
		} else {
			picture.Right = append(picture.Right, site)
		}
	}
	if len(picture.Left) == 0 {
		picture.Left, picture.Right = picture.Right, nil
	}
	link(picture.Left, true)
	link(picture.Right, false)
	picture.Appliance = view.MapAppliance{Name: "Riparo", Roles: w.T("map.roles"), Tone: vault.Tone,
		Lines: []string{w.T("map.vault", "Used", vault.Text), w.T("map.rate", "Rate", w.Rate(rep.SentPerSecond))}}
	return picture
}

// link draws the links of a column: its boxes have equal heights, and the appliance
// stands in the middle beside them.
func link(sites []view.MapSite, left bool) {
	for i := range sites {
		y := (float64(i) + 0.5) * 100 / float64(len(sites))
		if left {
			sites[i].Path = fmt.Sprintf("M0 %.2f C55 %.2f 45 50 100 50", y, y)
		} else {
			sites[i].Path = fmt.Sprintf("M0 50 C55 50 45 %.2f 100 %.2f", y, y)
		}
	}
}

// mapTone is how a machine colors the links that it uses.
func mapTone(m store.Machine, late bool) view.Tone {
	switch {
	case m.Health.Level == store.Critical:
		return view.Bad
	case m.Health.Level == store.Warning, late, m.Paused:
		return view.Warn
	}
	return view.OK
}

func worse(a, b view.Tone) view.Tone {
	if weight(b) < weight(a) {
		return b
	}
	return a
}

// siteBadge says whether a site answers.
func siteBadge(w *view.Words, s DiscoveredSite) view.Badge {
	switch {
	case s.Problem != nil:
		return view.Badge{Tone: view.Bad, Text: w.T("site.away")}
	case s.Seen.IsZero():
		return view.Badge{Tone: view.Mute, Text: w.T("site.not-yet")}
	}
	return view.Badge{Tone: view.OK, Text: w.T("site.reachable")}
}
