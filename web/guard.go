package web

import (
	"context"
	"net/http"
	"slices"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// whoOf is who clicked.
func whoOf(r *http.Request) api.Who {
	name := userOf(r).Name
	return api.Who{Name: name, Person: name}
}

// dismissal asks back before an alarm is dismissed.
func (k *Console) dismissal(v visit) (built, error) {
	w := v.words
	var m store.Machine
	err := k.Store.View(func(tx *store.Tx) (err error) {
		m, err = tx.Machines().Get(v.id)
		return err
	})
	if err != nil {
		return built{}, err
	}
	a := view.Ask{Title: w.T("alarm.dismiss"), Name: m.Name, Lead: w.T("alarm.dismiss-lead"), Action: machineHref(m) + "/dismiss-alarm",
		Back: machineHref(m), Submit: w.T("alarm.dismiss"), Icon: "check", Kind: "danger", Notes: w.T("alarm.note")}
	return built{title: w.T("alarm.dismiss"), place: "machines", body: view.AskPage(a)}, nil
}

func (k *Console) dismissAlarm(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	k.onward(w, r, "/machines/"+id, k.Appliance.DismissAlarm(r.Context(), whoOf(r), replication.MachineID(id), r.PostFormValue("notes")))
}

func (k *Console) pinPoint(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	k.onward(w, r, "/machines/"+id, k.Appliance.Pin(r.Context(), whoOf(r), replication.MachineID(id), replication.PointID(r.PathValue("point")), ""))
}

func (k *Console) unpinPoint(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	k.onward(w, r, "/machines/"+id, k.Appliance.Unpin(r.Context(), whoOf(r), replication.MachineID(id), replication.PointID(r.PathValue("point"))))
}

// decide takes a decision about what another administrator asked for.
func (k *Console) decide(do func(ctx context.Context, person, id string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k.onward(w, r, "/policies", do(r.Context(), whoOf(r).Person, r.PathValue("id")))
	}
}

func (k *Console) scrubNow(w http.ResponseWriter, r *http.Request) {
	k.onward(w, r, "/infrastructure", k.Appliance.ScrubNow(r.Context()))
}

func (k *Console) confirmClock(w http.ResponseWriter, r *http.Request) {
	k.onward(w, r, "/infrastructure", k.Appliance.ConfirmClock(r.Context(), whoOf(r)))
}

// approvalsShown bounds what a page lists; the API has all.
const approvalsShown = 20

// approvals are the requests for a second administrator, those that wait first.
func (k *Console) approvals(v visit) ([]view.ApprovalRow, error) {
	if !v.may("POST /approvals/{id}/approve") {
		return nil, nil
	}
	var all []store.Approval
	err := k.Store.View(func(tx *store.Tx) error {
		for r, err := range tx.Approvals().All() {
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		return nil
	})
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b store.Approval) int {
		switch waits := a.State == store.ApprovalWaiting; {
		case waits == (b.State == store.ApprovalWaiting):
			return 0
		case waits:
			return -1
		}
		return 1
	})
	w := v.words
	var rows []view.ApprovalRow
	for _, r := range all[:min(len(all), approvalsShown)] {
		row := view.ApprovalRow{ID: r.ID, Text: sentence(w.Said(r.Text)), By: r.RequestedBy, Time: r.Requested, Result: sentence(w.Said(r.Result)),
			State: view.Badge{Tone: view.Warn, Icon: "wait", Text: w.Named("approval-state", string(r.State))}}
		switch {
		case r.State == store.ApprovalWaiting:
			href := "/approvals/" + pathSegment(r.ID)
			if r.RequestedBy != v.user.Name {
				row.Approve = href + "/approve"
			}
			row.Refuse = href + "/refuse"
		default:
			row.State.Tone, row.State.Icon = view.Mute, "none"
			if r.DecidedBy != "" {
				row.Decided = w.T("approval.by", "Name", r.DecidedBy)
			}
		}
		rows = append(rows, row)
	}
	return rows, err
}

// alarmBanner is what a machine whose disks turn to noise asks of a person.
func alarmBanner(v visit, m store.Machine) *view.Banner {
	if m.Alarm == nil {
		return nil
	}
	w := v.words
	clean := w.T("alarm.no-clean")
	if at, ok := m.Alarm.LastClean.Time(); ok {
		clean = w.Time(at)
	} else if m.Alarm.LastClean != "" {
		clean = string(m.Alarm.LastClean)
	}
	b := &view.Banner{Tone: view.Bad, Title: w.T("alarm.title"), Text: w.T("alarm.text", "After", w.Time(m.Alarm.After), "Clean", clean, "Size", w.Bytes(m.Alarm.LostBytes))}
	if v.may("POST /machines/{id}/dismiss-alarm") {
		b.Actions = append(b.Actions, view.Action{Href: machineHref(m) + "/dismiss-alarm", Text: w.T("alarm.dismiss"), Icon: "check", Dialog: true})
	}
	return b
}

// pointSigns say what is known for and against a point.
func pointSigns(w *view.Words, p replication.RecoveryPoint) []view.Badge {
	var signs []view.Badge
	if len(p.Damage) > 0 {
		text := w.N("point.damaged", len(p.Damage))
		if len(p.Damage) >= replication.MaxDamage { // there may be more
			text = w.T("point.damaged-widely")
		}
		signs = append(signs, view.Badge{Tone: view.Bad, Text: text})
	}
	if p.Suspect {
		signs = append(signs, view.Badge{Tone: view.Warn, Text: w.T("point.suspect")})
	}
	if p.LastClean {
		signs = append(signs, view.Badge{Tone: view.OK, Icon: "shield", Text: w.T("point.last-clean")})
	}
	if p.Locked {
		signs = append(signs, view.Badge{Tone: view.Info, Icon: "lock", Text: w.T("point.locked", "Until", w.Time(p.LockedUntil))})
	}
	if p.Pinned {
		signs = append(signs, view.Badge{Tone: view.Info, Icon: "lock", Text: w.T("point.pinned")})
	}
	return signs
}

// signsText is pointSigns where only words have room.
func signsText(w *view.Words, p replication.RecoveryPoint) string {
	text := ""
	for _, s := range pointSigns(w, p) {
		text += " · " + s.Text
	}
	return text
}

// worth is how a point is drawn: what is known against it shows.
func worth(p replication.RecoveryPoint) string {
	switch {
	case len(p.Damage) > 0:
		return "damaged"
	case p.Suspect:
		return "suspect"
	case p.LastClean:
		return "last-clean"
	}
	return ""
}

// scrubFacts tell where the scrub of the vault is.
func (k *Console) scrubFacts(v visit) (list []view.Fact, rot []view.Finding) {
	w := v.words
	s, err := k.Appliance.Scrub(v.ctx)
	if err != nil {
		p := replication.AsProblem(err)
		return nil, []view.Finding{{Tone: view.Bad, Cause: sentence(w.Said(p.Cause)), Action: sentence(w.Said(p.Action))}}
	}
	now := view.Fact{Label: w.T("scrub.now"), Value: w.T("scrub.rests")}
	if s.Running && s.TotalBytes > 0 {
		now.Value, now.Note = w.Bytes(s.DoneBytes)+" / "+w.Bytes(s.TotalBytes), w.T("scrub.rate", "Rate", w.Rate(float64(s.BytesPerSecond)))
	} else if !s.Next.IsZero() {
		now.Note = w.T("scrub.next", "Time", w.Short(s.Next, v.now))
	}
	last := view.Fact{Label: w.T("scrub.last"), Value: w.T("never")}
	if !s.Completed.IsZero() {
		last.Value, last.Note = w.Short(s.Completed, v.now), w.Bytes(s.CompletedBytes)
	}
	found := view.Fact{Label: w.T("scrub.found"), Value: w.Int(int64(len(s.Findings)))}
	switch {
	case slices.ContainsFunc(s.Findings, func(f api.Rot) bool { return !f.Map }):
		found.Tone = view.Bad
	case len(s.Findings) > 0:
		found.Tone = view.Warn
	}
	for _, f := range s.Findings[:min(len(s.Findings), 10)] {
		if f.Map {
			rot = append(rot, view.Finding{Tone: view.Warn, Cause: w.T("scrub.map", "Disk", string(f.Disk)), Effect: w.T("scrub.map.effect")})
			continue
		}
		rot = append(rot, view.Finding{Tone: view.Bad, Cause: w.T("scrub.place", "Disk", string(f.Disk), "Offset", w.Int(f.Offset), "Length", w.Int(f.Length)),
			Effect: w.N("scrub.needed", len(f.Points))})
	}
	if s.Trouble != "" {
		rot = append(rot, view.Finding{Tone: view.Warn, Cause: w.T("scrub.trouble"), Effect: sentence(w.Said(s.Trouble))})
	}
	return []view.Fact{now, last, found}, rot
}
