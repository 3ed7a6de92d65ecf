package api

import (
	"context"
	"net/http"
	"slices"

	"riparo/replication"
	"riparo/store"
)

// NoteBody is a word on why.
type NoteBody struct {
	Note string `json:"note,omitempty" maxLength:"1000"`
}

// PointsBody names recovery points.
type PointsBody struct {
	Points []replication.PointID `json:"points" minItems:"1" maxItems:"1000"`
}

// EraseBody confirms that what is kept of a machine may go.
type EraseBody struct {
	Confirm string `json:"confirm" doc:"The name again."`
}

type eraseInput struct {
	ID   string `path:"id"`
	Body EraseBody
}

type noteInput struct {
	ID   string `path:"id"`
	Body *NoteBody
}

type pointInput struct {
	ID    string `path:"id"`
	Point string `path:"point"`
	Body  *NoteBody
}

type pointsInput struct {
	ID   string `path:"id"`
	Body PointsBody
}

func whoOf(ctx context.Context) Who {
	c := callerOf(ctx)
	return Who{Name: c.Name, Person: c.Person}
}

func (b *NoteBody) text() string {
	if b == nil {
		return ""
	}
	return b.Note
}

// guarding are the calls that keep points safe.
func (a *API) guarding() {
	const tag = "Guarding"
	add(a, operation{id: "dismiss-alarm", method: "POST", path: "/api/v1/machines/{id}/dismiss-alarm", tag: tag, summary: "Say that a disk which turns to noise is no attack, or dealt with"},
		func(ctx context.Context, in *noteInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.DismissAlarm(ctx, whoOf(ctx), replication.MachineID(in.ID), in.Body.text()))
		})
	add(a, operation{id: "pin-point", method: "POST", path: "/api/v1/machines/{id}/points/{point}/pin", tag: tag, summary: "Keep a recovery point, whatever the retention says"},
		func(ctx context.Context, in *pointInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.Pin(ctx, whoOf(ctx), replication.MachineID(in.ID), replication.PointID(in.Point), in.Body.text()))
		})
	add(a, operation{id: "unpin-point", method: "POST", path: "/api/v1/machines/{id}/points/{point}/unpin", tag: tag, summary: "Let a pinned recovery point go by the retention again; takes four eyes"},
		func(ctx context.Context, in *pointInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.Unpin(ctx, whoOf(ctx), replication.MachineID(in.ID), replication.PointID(in.Point)))
		})
	add(a, operation{id: "delete-points", method: "POST", path: "/api/v1/machines/{id}/delete-points", tag: tag, summary: "Delete recovery points; takes four eyes when some are protected"},
		func(ctx context.Context, in *pointsInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.DeletePoints(ctx, whoOf(ctx), replication.MachineID(in.ID), in.Body.Points))
		})
	add(a, operation{id: "list-kept", method: "GET", path: "/api/v1/vault/kept", tag: tag, summary: "What the vault keeps of machines that are not protected"},
		func(ctx context.Context, _ *none) (*body[[]Kept], error) { return answer(a.Appliance.Kept(ctx)) })
	add(a, operation{id: "erase-kept", method: "POST", path: "/api/v1/vault/kept/{id}/erase", tag: tag, summary: "Erase what the vault keeps of a machine that is not protected; takes four eyes"},
		func(ctx context.Context, in *eraseInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.EraseKept(ctx, whoOf(ctx), in.ID, in.Body.Confirm))
		})
	add(a, operation{id: "list-approvals", method: "GET", path: "/api/v1/approvals", tag: tag, summary: "What waits for a second administrator, and what was decided, newest first"}, a.listApprovals)
	decide := func(name, summary string, do func(ctx context.Context, person, id string) error) {
		add(a, operation{id: name + "-request", method: "POST", path: "/api/v1/approvals/{id}/" + name, tag: tag, summary: summary},
			func(ctx context.Context, in *idInput) (*body[Done], error) {
				return answer(Done{true}, do(ctx, callerOf(ctx).Person, in.ID))
			})
	}
	decide("approve", "Approve what another administrator asked for; it is done", a.Appliance.Approve)
	decide("refuse", "Refuse a request, or take an own one back", a.Appliance.Refuse)
	add(a, operation{id: "scrub", method: "GET", path: "/api/v1/vault/scrub", tag: tag, summary: "How far the vault has read itself again, and what it found"},
		func(ctx context.Context, _ *none) (*body[ScrubStatus], error) { return answer(a.Appliance.Scrub(ctx)) })
	add(a, operation{id: "scrub-now", method: "POST", path: "/api/v1/vault/scrub", tag: tag, summary: "Read the whole vault again from now on", status: http.StatusAccepted},
		func(ctx context.Context, _ *none) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.ScrubNow(ctx))
		})
	add(a, operation{id: "confirm-clock", method: "POST", path: "/api/v1/vault/clock", tag: tag, summary: "Take the clock as the time by which locks end and points age; takes four eyes while points are locked"},
		func(ctx context.Context, _ *none) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.ConfirmClock(ctx, whoOf(ctx)))
		})
}

func (a *API) listApprovals(ctx context.Context, _ *none) (*body[[]store.Approval], error) {
	list := []store.Approval{}
	err := a.Store.View(func(tx *store.Tx) error {
		for r, err := range tx.Approvals().All() {
			if err != nil {
				return err
			}
			if r.User != nil {
				r.User.PasswordHash = ""
			}
			if r.SignOn != nil {
				r.SignOn.Sealed = nil
			}
			list = append(list, r)
		}
		return nil
	})
	slices.Reverse(list)
	return answer(list, err)
}

// DismissAlarm ends the alarm that a machine's disks turn to noise.
func (c *Client) DismissAlarm(ctx context.Context, id replication.MachineID, note string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/machines/"+segment(string(id))+"/dismiss-alarm", nil, NoteBody{note}, nil)
}

// Pin keeps a recovery point.
func (c *Client) Pin(ctx context.Context, id replication.MachineID, point replication.PointID, note string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/machines/"+segment(string(id))+"/points/"+segment(string(point))+"/pin", nil, NoteBody{note}, nil)
}

// Unpin lets a pinned point go.
func (c *Client) Unpin(ctx context.Context, id replication.MachineID, point replication.PointID) error {
	return c.call(ctx, http.MethodPost, "/api/v1/machines/"+segment(string(id))+"/points/"+segment(string(point))+"/unpin", nil, NoteBody{}, nil)
}

// DeletePoints deletes recovery points.
func (c *Client) DeletePoints(ctx context.Context, id replication.MachineID, points []replication.PointID) error {
	return c.call(ctx, http.MethodPost, "/api/v1/machines/"+segment(string(id))+"/delete-points", nil, PointsBody{points}, nil)
}

// Kept lists what the vault keeps of machines that are not protected.
func (c *Client) Kept(ctx context.Context) ([]Kept, error) {
	return get[[]Kept](ctx, c, "/api/v1/vault/kept", nil)
}

// EraseKept asks for what is kept of a machine to be erased.
func (c *Client) EraseKept(ctx context.Context, id, confirm string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/vault/kept/"+segment(id)+"/erase", nil, EraseBody{confirm}, nil)
}

// Approvals lists requests for a second administrator, newest first.
func (c *Client) Approvals(ctx context.Context) ([]store.Approval, error) {
	return get[[]store.Approval](ctx, c, "/api/v1/approvals", nil)
}

// Approve approves a request.
func (c *Client) Approve(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/approvals/"+segment(id)+"/approve", nil, nil, nil)
}

// Refuse refuses a request.
func (c *Client) Refuse(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/approvals/"+segment(id)+"/refuse", nil, nil, nil)
}

// Scrub says where the scrub of the vault is.
func (c *Client) Scrub(ctx context.Context) (ScrubStatus, error) {
	return get[ScrubStatus](ctx, c, "/api/v1/vault/scrub", nil)
}

// ScrubNow begins a pass.
func (c *Client) ScrubNow(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/api/v1/vault/scrub", nil, nil, nil)
}

// ConfirmClock asks for the clock to be taken as the time by which locks end.
func (c *Client) ConfirmClock(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/api/v1/vault/clock", nil, nil, nil)
}
