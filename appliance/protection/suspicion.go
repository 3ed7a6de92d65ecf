package protection

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/noise"
	"riparo/store"
)

// codeSuspicion is the finding that a disk of a machine turns to noise.
const codeSuspicion = "ransomware.suspected"

// samples tells what a new point is made of, disk by disk. A disk that was copied or
// compared as a whole says nothing about what the machine does to it. Not knowing is
// no reason to hold replication up.
func (p *Protector) samples(ctx context.Context, m store.Machine, out Outcome) map[replication.DiskID]noise.Sample {
	samples := map[replication.DiskID]noise.Sample{}
	for _, d := range m.Disks {
		delta := func(did DiskOutcome) bool { return did.Key == d.Key && did.Mode == hypervisor.Delta }
		if !slices.ContainsFunc(out.Disks, delta) {
			continue
		}
		made, err := p.sink.Makeup(ctx, d.ID, out.Point.ID)
		if err != nil {
			p.log.Warn("a recovery point was not looked at for signs of an encryption", "machine", m.Name, "disk", d.ID, "error", err)
			continue
		}
		samples[d.ID] = noise.Sample{Time: out.Point.Time, Size: d.Size, Changed: made.Changed, Noise: made.Noise,
			Turned: made.Turned, Fresh: made.Fresh, Vanished: made.Vanished}
	}
	return samples
}

// suspect takes the samples of a new point into a machine's record and raises the
// alarm when they say so. points are those there are, newest first.
func suspect(m *store.Machine, samples map[replication.DiskID]noise.Sample, points func() []replication.RecoveryPoint, now time.Time) (news []store.Event) {
	if len(samples) == 0 {
		return nil
	}
	states := maps.Clone(m.Noise)
	if states == nil {
		states = map[replication.DiskID]noise.State{}
	}
	var onset, rising []time.Time // when each of the disks last was clean
	var disks []string
	lost := int64(0)
	for _, d := range m.Disks {
		sample, ok := samples[d.ID]
		if !ok {
			continue
		}
		var v noise.Verdict
		states[d.ID], v = noise.Watch(states[d.ID], sample)
		if v.Rising && !v.Clean.IsZero() {
			rising = append(rising, v.Clean)
		}
		if v.Alarm {
			disks, onset = append(disks, d.Key), append(onset, v.Clean)
			lost += v.Sum
		}
	}
	m.Noise = states
	m.CleanPoint = ""
	if len(rising) > 0 {
		_, m.CleanPoint = cleanAt(points(), rising)
	}
	if len(disks) == 0 || m.Alarm != nil {
		return nil
	}
	m.Alarm = &store.Alarm{Raised: now, Disks: disks, LostBytes: lost}
	m.Alarm.After, m.Alarm.LastClean = cleanAt(points(), onset)
	clean := "none is left"
	if m.Alarm.LastClean != "" {
		clean = string(m.Alarm.LastClean)
	}
	f := store.Finding{Code: codeSuspicion, Level: string(store.Warning), Since: now,
		Cause:  fmt.Sprintf("disk %s turns to noise: %d bytes that compressed were replaced by bytes that do not, as an encryption does", strings.Join(disks, ", "), lost),
		Effect: fmt.Sprintf("recovery points from now on are suspect; the last clean one is kept until the alarm is dismissed: %s", clean),
		Action: "look at the machine; if it is under attack, isolate it and fail over to the last clean point; otherwise dismiss the alarm"}
	setFinding(m, f)
	return []store.Event{{Severity: store.SeverityCritical, Code: codeSuspicion, Text: f.Cause + "; " + f.Effect, Action: f.Action,
		Args: map[string]string{"disks": strings.Join(disks, ", "), "bytes": fmt.Sprint(lost), "clean": clean}}}
}

// cleanAt is the earliest of some moments, in the order of the points, and the newest
// whole point up to it; "" when a moment is zero or there is none.
func cleanAt(points []replication.RecoveryPoint, moments []time.Time) (at time.Time, clean replication.PointID) {
	from := -1
	for _, moment := range moments {
		if moment.IsZero() {
			return moment, ""
		}
		if i := upTo(points, moment, ""); i > from {
			at, from = moment, i
		}
	}
	for _, p := range points[from:] {
		if len(p.Damage) == 0 {
			return at, p.ID
		}
	}
	return at, ""
}

// upTo is where in the points, newest first, those up to a moment begin: with the point
// of that moment, or else with the one that is known to be clean. Only without them it is
// behind the oldest point that says of itself to be later. A clock that was set back makes
// no point clean.
func upTo(points []replication.RecoveryPoint, moment time.Time, clean replication.PointID) int {
	for i, p := range points {
		if p.Time.Equal(moment) {
			return i
		}
	}
	if i := slices.IndexFunc(points, func(p replication.RecoveryPoint) bool { return p.ID == clean }); i >= 0 {
		return i
	}
	i := len(points)
	for i > 0 && !points[i-1].Time.After(moment) {
		i--
	}
	return i
}

// mark notes on points, newest first, what an alarm says about them.
func mark(points []replication.RecoveryPoint, m store.Machine) {
	clean := 0
	if m.Alarm != nil {
		clean = upTo(points, m.Alarm.After, m.Alarm.LastClean)
	}
	for i := range points {
		p := &points[i]
		p.Suspect = i < clean
		p.LastClean = m.Alarm != nil && p.ID == m.Alarm.LastClean
		p.Pinned = p.Pinned || m.PinOf(p.ID) != nil
	}
}

// DismissAlarm ends the alarm that a machine's disks turn to noise: a person says that
// it is no attack, or that it is dealt with. Its points are ordinary ones again.
func (p *Protector) DismissAlarm(id replication.MachineID, actor, note string) error {
	before, _, err := p.machine(id)
	if err != nil {
		return err
	}
	if before.Alarm == nil {
		return replication.Stopf("alarm.none", "nothing: there is nothing to dismiss", "%s has no alarm", before.Name)
	}
	text := fmt.Sprintf("the alarm that %s turns to noise was dismissed by %s", strings.Join(before.Alarm.Disks, ", "), actor)
	if note = strings.TrimSpace(note); note != "" {
		text += ": " + note
	}
	_, err = p.Change(id, func(m *store.Machine) error {
		if m.Alarm == nil {
			return nil
		}
		m.Alarm, m.CleanPoint = nil, ""
		states := maps.Clone(m.Noise)
		for _, d := range m.Disks {
			if s, ok := states[d.ID]; ok {
				states[d.ID] = noise.Dismiss(s, d.Size)
			}
		}
		m.Noise = states
		clearFindings(m, func(code string) bool { return code == codeSuspicion })
		return nil
	}, store.Event{Severity: store.SeverityInfo, Code: "ransomware.dismissed", Text: text, Args: map[string]string{"actor": actor, "disks": strings.Join(before.Alarm.Disks, ", ")}})
	return err
}
