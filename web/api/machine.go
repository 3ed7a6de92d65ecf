package api

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

var problemType = reflect.TypeFor[Problem]()

// Machine is a protected machine with what replication knows of it right now.
type Machine struct {
	store.Machine
	// RPOSeconds is the age of the newest recovery point; null when there is none.
	RPOSeconds *float64 `json:"rpo_seconds"`
	// Allowed are the verbs that can be asked for now, Denied the others with why.
	Allowed []lifecycle.Verb          `json:"allowed" nullable:"false"`
	Denied  map[lifecycle.Verb]string `json:"denied"`
	Now     Activity                  `json:"now"`
}

// Activity is what replication does with a machine right now.
type Activity struct {
	Text             string    `json:"text"`
	DoneBytes        int64     `json:"done_bytes"`
	TotalBytes       int64     `json:"total_bytes"`
	SentPerSecond    float64   `json:"sent_bytes_per_second"`
	LastCycleSeconds float64   `json:"last_cycle_seconds"`
	LastCycleBytes   int64     `json:"last_cycle_bytes"`
	NextCycle        time.Time `json:"next_cycle,omitzero"`
}

// ProtectBody asks for the protection of a discovered machine.
type ProtectBody struct {
	Site    string   `json:"site" minLength:"1" doc:"Where the machine runs."`
	Ref     string   `json:"ref" minLength:"1" doc:"Its reference there; see /api/v1/discovered."`
	Target  string   `json:"target" minLength:"1" doc:"The site that takes over."`
	Policy  string   `json:"policy" minLength:"1" doc:"The replication policy."`
	Network string   `json:"network,omitempty" doc:"Of the target, for a real failover; none when empty."`
	Exclude []string `json:"exclude,omitempty" doc:"Keys of disks that are not replicated."`
	// Seeded: see [ProtectRequest].
	Seeded map[string]string `json:"seeded,omitempty" doc:"Raw images of disks that were brought, by disk key: names of files in the folder seeds of the appliance. The vault is filled from them first; then only what differs is sent."`
	// BootSign: see [ProtectRequest].
	BootSign string `json:"boot_sign,omitempty" maxLength:"200" doc:"A text that the machine prints on its serial console when it is up; a failover waits to see it."`
}

// Started is the answer to a verb.
type Started struct {
	Machine replication.MachineID `json:"machine,omitempty"`
	Job     string                `json:"job,omitempty" doc:"The job that does the work; empty when it was done at once."`
}

// VerbBody is what a verb may need. Each takes what concerns it.
type VerbBody struct {
	Point      replication.PointID `json:"point,omitempty" doc:"The recovery point; empty for the latest, \"app\" for the latest application-consistent one."`
	Network    string              `json:"network,omitempty" doc:"For a test failover; an isolated one when empty."`
	SyncFirst  bool                `json:"sync_first,omitempty" doc:"An unplanned failover first tries to shut the source down and to send its latest data."`
	Confirm    string              `json:"confirm,omitempty" doc:"The name of the machine again, for real failovers, failback and disabling."`
	Notes      string              `json:"notes,omitempty" maxLength:"4000" doc:"What a test failover showed."`
	KeepPoints bool                `json:"keep_points,omitempty" doc:"Disabling leaves the recovery points in the vault."`
}

// verbs are those with a call of their own, and what they do.
var verbs = []struct {
	verb    lifecycle.Verb
	summary string
}{
	{lifecycle.TestFailover, "Boot a copy of the machine in an isolated network"},
	{lifecycle.CleanupTest, "Remove the copy of a test failover"},
	{lifecycle.PlannedFailover, "Shut the source down and move the machine without loss"},
	{lifecycle.UnplannedFailover, "Start the replica from a recovery point"},
	{lifecycle.ChangePoint, "Start the replica from another recovery point, before the commit"},
	{lifecycle.Commit, "Decide for the recovery point; the replica becomes independent"},
	{lifecycle.CompleteMigration, "End a migration: the source is let go"},
	{lifecycle.ReverseReplicate, "Replicate from where the machine runs now to where it came from"},
	{lifecycle.Failback, "Move the machine back to where it came from"},
	{lifecycle.Resynchronize, "Compare source and vault and send what differs"},
	{lifecycle.Pause, "Pause replication"},
	{lifecycle.Resume, "Go on with replication"},
	{lifecycle.DisableProtection, "End the protection of the machine"},
}

// pageInput asks for a page of what has no order in time: by ID.
type pageInput struct {
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	After string `query:"after" doc:"Only machines after the one of this ID. A page with fewer than limit is the last one."`
}

type idInput struct {
	ID string `path:"id"`
}

type verbInput struct {
	ID   string `path:"id"`
	Body *VerbBody
}

type protectInput struct{ Body ProtectBody }

func (a *API) machines() {
	add(a, operation{id: "list-machines", method: "GET", path: "/api/v1/machines", tag: "Machines", summary: "Protected machines, by ID"}, a.listMachines)
	add(a, operation{id: "get-machine", method: "GET", path: "/api/v1/machines/{id}", tag: "Machines", summary: "One protected machine"}, a.getMachine)
	add(a, operation{id: "list-points", method: "GET", path: "/api/v1/machines/{id}/points", tag: "Machines", summary: "The recovery points of a machine, newest first"}, a.listPoints)
	add(a, operation{id: "protect", method: "POST", path: "/api/v1/machines", tag: "Machines", summary: "Protect a discovered machine", status: http.StatusAccepted}, a.protect)
	add(a, operation{id: "list-seeds", method: "GET", path: "/api/v1/seeds", tag: "Machines", summary: "The images that were brought to fill disks from"},
		func(ctx context.Context, _ *none) (*body[Seeds], error) { return answer(a.Appliance.Seeds(ctx)) })
	for _, v := range verbs {
		add(a, operation{id: string(v.verb), method: "POST", path: "/api/v1/machines/{id}/" + string(v.verb), tag: "Machines", summary: v.summary, status: http.StatusAccepted},
			func(ctx context.Context, in *verbInput) (*body[Started], error) { return a.ask(ctx, v.verb, in) })
	}
}

func (a *API) listMachines(ctx context.Context, in *pageInput) (*body[[]Machine], error) {
	report := a.Appliance.Report()
	list := []Machine{}
	err := a.Store.View(func(tx *store.Tx) error {
		page, err := tx.Machines().Page(in.After, in.Limit, false)
		if err != nil {
			return err
		}
		for _, m := range page {
			full, err := describe(tx, m, report)
			if err != nil {
				return err
			}
			list = append(list, full)
		}
		return nil
	})
	return answer(list, err)
}

func (a *API) getMachine(ctx context.Context, in *idInput) (*body[Machine], error) {
	report := a.Appliance.Report()
	var full Machine
	err := a.Store.View(func(tx *store.Tx) error {
		m, err := tx.Machines().Get(in.ID)
		if err != nil {
			return err
		}
		full, err = describe(tx, m, report)
		return err
	})
	return answer(full, err)
}

// describe joins a record with the report and with what can be asked for.
func describe(tx *store.Tx, m store.Machine, report Report) (Machine, error) {
	r := report.Machines[m.ID]
	full := Machine{Machine: m, Allowed: []lifecycle.Verb{}, Denied: map[lifecycle.Verb]string{},
		Now: Activity{Text: r.Activity, DoneBytes: r.Done, TotalBytes: r.Total, SentPerSecond: r.SentPerSecond,
			LastCycleSeconds: r.LastCycle.Seconds(), LastCycleBytes: r.LastBytes, NextCycle: r.NextCycle}}
	if !r.PointTime.IsZero() {
		seconds := max(0, report.Time.Sub(r.PointTime).Seconds())
		full.RPOSeconds = &seconds
	}
	unfinished, err := tx.UnfinishedJobs(m.ID).Page("", 1, false)
	if err != nil {
		return full, err
	}
	s := lifecycle.Situation{Scenario: m.Scenario, Direction: m.Direction, State: m.State, Drill: m.Drill,
		Paused: m.Paused, HasPoints: m.LastPoint != nil, Busy: len(unfinished) > 0}
	for _, v := range verbs {
		if why := lifecycle.Why(s, v.verb); why != "" {
			full.Denied[v.verb] = why
		} else {
			full.Allowed = append(full.Allowed, v.verb)
		}
	}
	return full, nil
}

func (a *API) listPoints(ctx context.Context, in *idInput) (*body[[]replication.RecoveryPoint], error) {
	points, err := a.Appliance.Points(ctx, replication.MachineID(in.ID))
	if points == nil {
		points = []replication.RecoveryPoint{}
	}
	return answer(points, err)
}

func (a *API) protect(ctx context.Context, in *protectInput) (*body[Started], error) {
	b := in.Body
	machine, job, err := a.Appliance.Protect(ctx, ProtectRequest{Actor: callerOf(ctx).Name, Site: b.Site, Ref: hypervisor.Ref(b.Ref),
		Target: b.Target, Policy: b.Policy, Network: b.Network, Exclude: b.Exclude, Seeded: b.Seeded, BootSign: b.BootSign})
	return answer(Started{Machine: machine, Job: job}, err)
}

func (a *API) ask(ctx context.Context, verb lifecycle.Verb, in *verbInput) (*body[Started], error) {
	var b VerbBody
	if in.Body != nil {
		b = *in.Body
	}
	job, err := a.Appliance.Ask(ctx, Request{Actor: callerOf(ctx).Name, Person: callerOf(ctx).Person, Verb: verb, Machine: replication.MachineID(in.ID),
		Point: b.Point, Network: b.Network, SyncFirst: b.SyncFirst, Confirm: b.Confirm, Notes: b.Notes, KeepPoints: b.KeepPoints})
	return answer(Started{Machine: replication.MachineID(in.ID), Job: job}, err)
}
