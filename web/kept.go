package web

import (
	"net/http"
	"slices"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// keptCard lists what the vault keeps of machines that are not protected.
func (k *Console) keptCard(v visit) (c view.KeptCard) {
	w := v.words
	list, err := k.Appliance.Kept(v.ctx)
	if err != nil {
		c.Problem = sentence(w.Said(replication.AsProblem(err).Cause))
	}
	for _, kept := range list {
		row := view.KeptRow{Name: kept.Name, ID: kept.ID, Disks: w.N("kept.disks", len(kept.Disks)), Since: kept.Since, Newest: kept.Newest,
			Points: w.Int(int64(kept.Points)), Stored: w.Bytes(kept.StoredBytes)}
		if kept.Name != kept.ID {
			row.Disks = kept.ID + " · " + row.Disks
		}
		if kept.Pinned > 0 {
			row.State = append(row.State, view.Badge{Tone: view.Info, Icon: "lock", Text: w.N("kept.pinned", kept.Pinned)})
		}
		if !kept.LockedUntil.IsZero() {
			row.State = append(row.State, view.Badge{Tone: view.Info, Icon: "lock", Text: w.T("point.locked", "Until", w.Time(kept.LockedUntil))})
		}
		unread := slices.ContainsFunc(kept.Disks, func(d api.KeptDisk) bool { return d.Unread })
		if unread {
			row.State = append(row.State, view.Badge{Tone: view.Bad, Icon: "warn", Text: w.T("kept.unreadable")})
		}
		if v.may("POST /infrastructure/kept/{id}/erase") && kept.LockedUntil.IsZero() && !unread {
			row.Erase = &view.Action{Href: "/infrastructure/kept/" + pathSegment(kept.ID) + "/erase", Text: w.T("kept.erase"), Icon: "remove", Kind: "small", Dialog: true}
		}
		c.Rows = append(c.Rows, row)
	}
	return c
}

// keptErasure asks back before what is kept of a machine is erased.
func (k *Console) keptErasure(v visit) (built, error) { return k.keptErasureWith(v, nil) }

func (k *Console) keptErasureWith(v visit, problem error) (built, error) {
	list, err := k.Appliance.Kept(v.ctx)
	if err != nil {
		return built{}, err
	}
	i := slices.IndexFunc(list, func(kept api.Kept) bool { return kept.ID == v.id })
	if i < 0 {
		return built{}, store.ErrNotFound
	}
	w, kept := v.words, list[i]
	a := view.Ask{Title: w.T("kept.erase-title"), Name: kept.Name, Lead: w.T("kept.erase-lead"), Action: "/infrastructure/kept/" + pathSegment(kept.ID) + "/erase",
		Back: "/infrastructure", Submit: w.T("kept.erase"), Icon: "remove", Kind: "danger", Confirm: kept.Name,
		Effects: []view.Effect{{Place: w.T("vault"), Icon: "point", Tone: view.Bad, Text: w.N("kept.erase-points", kept.Points, "Size", w.Bytes(kept.StoredBytes))}}}
	b := built{title: a.Title + " · " + kept.Name, place: "infrastructure"}
	if problem != nil {
		m := messageOf(w, replication.AsProblem(problem))
		a.Message, b.status = &m, http.StatusConflict
	}
	b.body = view.AskPage(a)
	return b, nil
}

func (k *Console) eraseKept(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	err := k.Appliance.EraseKept(r.Context(), whoOf(r), v.id, r.PostFormValue("confirm"))
	if err == nil {
		k.back(w, r, "/infrastructure")
		return
	}
	b, failed := k.keptErasureWith(v, err)
	if failed != nil {
		k.fail(w, r, failed)
		return
	}
	k.print(w, v, b)
}
