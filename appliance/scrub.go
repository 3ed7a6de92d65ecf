package appliance

import (
	"context"

	"riparo/replication"
	"riparo/web/api"
)

// Scrub says how far the vault has read itself again, and what it found.
func (a *Appliance) Scrub(ctx context.Context) (api.ScrubStatus, error) {
	s := a.vault.ScrubState()
	status := api.ScrubStatus{Running: s.Running, Began: s.Began, DoneBytes: s.Done, TotalBytes: s.Total, BytesPerSecond: s.Rate, Next: s.Next,
		Passes: s.Passes, Completed: s.Completed, CompletedBytes: s.CompletedBytes, Findings: []api.Rot{}, Trouble: s.Trouble}
	for _, d := range a.vault.Held() {
		if d.Size == 0 { // it could not be opened
			if info, err := a.vault.Info(d.ID); err == nil && info.Trouble != nil {
				status.Findings = append(status.Findings, api.Rot{Disk: d.ID, Points: []replication.PointID{}, Head: true, Reason: info.Trouble.Error()})
			}
			continue
		}
		found, err := a.vault.Found(ctx, d.ID)
		if err != nil {
			return status, err
		}
		for _, f := range found {
			rot := api.Rot{Disk: f.Disk, Offset: f.Extent.Offset, Length: f.Extent.Length, Points: f.Points, Head: f.Head, Map: f.Map, Reason: f.Reason}
			if rot.Points == nil {
				rot.Points = []replication.PointID{}
			}
			status.Findings = append(status.Findings, rot)
		}
	}
	return status, nil
}

// ScrubNow lets the vault read itself again from now on.
func (a *Appliance) ScrubNow(context.Context) error {
	a.vault.ScrubNow()
	return nil
}
