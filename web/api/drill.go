package api

import (
	"cmp"
	"context"
	"slices"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// Drill is what a test failover showed: the report that an auditor asks for.
type Drill struct {
	Job     string                `json:"job"`
	Machine replication.MachineID `json:"machine"`
	Name    string                `json:"name"`
	Actor   string                `json:"actor,omitempty" doc:"Who asked for it."`
	Started time.Time             `json:"started"`
	State   store.JobState        `json:"state"`
	Passed  bool                  `json:"passed" doc:"The test machine was seen to boot."`
	Point   string                `json:"point,omitempty" doc:"The recovery point that was tested."`
	Age     string                `json:"rpo_achieved,omitempty" doc:"How old that point was when the test began."`
	RTO     float64               `json:"rto_achieved_seconds,omitempty" doc:"From the request until the machine was seen to boot."`
	Console string                `json:"console,omitempty" doc:"What it printed."`
	Network string                `json:"network,omitempty" doc:"Where it was attached; empty for an isolated network."`
	Steps   []store.Step          `json:"steps" nullable:"false"`
	Cause   string                `json:"cause,omitempty" doc:"Why it did not pass."`

	Cleaned   time.Time `json:"cleaned_up,omitzero"`
	CleanedBy string    `json:"cleaned_up_by,omitempty"`
	Notes     string    `json:"notes,omitempty" doc:"What was noted at the cleanup."`
	Due       time.Time `json:"next_due,omitzero" doc:"When the machine is to be tested again."`
}

// Drills are the test failovers that began at since or later, the newest first: of
// one machine, or of all. A test that is due nowhere is one of a machine that is
// not protected any more.
func Drills(tx *store.Tx, machine replication.MachineID, since time.Time) ([]Drill, error) {
	all := tx.Jobs().Range
	if machine != "" {
		all = tx.JobsOf(machine)
	}
	protected := map[string]bool{}
	for m, err := range tx.Machines().All() {
		if err != nil {
			return nil, err
		}
		protected[string(m.ID)] = true
	}
	d := drilling{since: since, protected: protected}
	for j, err := range all.All() {
		if err != nil {
			return nil, err
		}
		d.add(j)
	}
	return d.done(), nil
}

// drilling makes drills of jobs, which come oldest first.
type drilling struct {
	since     time.Time
	protected map[string]bool
	drills    []Drill
	open      map[string]int // of a machine: its newest test, which a cleanup ends
}

func (d *drilling) add(j store.Job) {
	if j.Created.Before(d.since) {
		return
	}
	switch lifecycle.Verb(j.Kind) {
	case lifecycle.TestFailover:
		drill := drillOf(j)
		if d.protected[j.Machine] && drill.Passed {
			drill.Due = j.Ended.Add(lifecycle.DrillInterval)
		}
		if d.open == nil {
			d.open = map[string]int{}
		}
		d.open[j.Machine] = len(d.drills)
		d.drills = append(d.drills, drill)
	case lifecycle.CleanupTest:
		i, known := d.open[j.Machine]
		if !known || j.State != store.Succeeded {
			return
		}
		d.drills[i].Cleaned, d.drills[i].CleanedBy, d.drills[i].Notes = j.Ended, j.Actor, j.Params["notes"]
		delete(d.open, j.Machine)
	}
}

// done gives the drills, the newest first.
func (d *drilling) done() []Drill {
	if d.drills == nil {
		return []Drill{}
	}
	slices.Reverse(d.drills)
	return d.drills
}

func drillOf(j store.Job) Drill {
	d := Drill{Job: j.ID, Machine: replication.MachineID(j.Machine), Name: cmp.Or(j.Name, j.Machine), Actor: j.Actor, Started: j.Created, State: j.State,
		Passed: j.State == store.Succeeded, Point: j.Data["point"], Network: j.Params["network"], Steps: j.Steps}
	for _, s := range j.Steps {
		for _, f := range s.Evidence {
			switch f.Name {
			case "age":
				d.Age = f.Value
			case "console":
				d.Console = f.Value
			}
		}
	}
	if d.Steps == nil {
		d.Steps = []store.Step{}
	}
	if d.Passed {
		d.RTO = j.Ended.Sub(j.Created).Seconds()
	} else if j.Error != nil {
		d.Cause = j.Error.Cause
	}
	return d
}

type reportInput struct {
	Machine string    `query:"machine" doc:"Only of this machine, by its ID."`
	Since   time.Time `query:"since" doc:"From when on; the last 30 days by default."`
}

// reportDays is how far back a report reaches that nobody gave a time for.
const reportDays = 30

func (a *API) reports() {
	since := func(in *reportInput) time.Time {
		if in.Since.IsZero() {
			return a.Now().AddDate(0, 0, -reportDays)
		}
		return in.Since
	}
	add(a, operation{id: "list-drills", method: "GET", path: "/api/v1/reports/drills", tag: "Reports", summary: "Test failovers and what they showed, newest first"},
		func(_ context.Context, in *reportInput) (*body[[]Drill], error) {
			var drills []Drill
			err := a.Store.View(func(tx *store.Tx) (err error) {
				drills, err = Drills(tx, replication.MachineID(in.Machine), since(in))
				return err
			})
			return answer(drills, err)
		})
	add(a, operation{id: "list-compliance", method: "GET", path: "/api/v1/reports/rpo", tag: "Reports", summary: "How much of the time each machine met its recovery point objective"},
		func(_ context.Context, in *reportInput) (*body[[]Compliance], error) {
			return answer(a.Past.Compliance(replication.MachineID(in.Machine), since(in), a.Now()))
		})
}
