package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// pageSize is how many rows a page of jobs or events has.
const pageSize = 50

// jobColumns are those that can be hidden, besides the job.
var jobColumns = []string{"machine", "progress", "began", "took"}

func (k *Console) jobs(v visit) (built, error) {
	w := v.words
	l, _ := listNamed("jobs")
	seen := l.viewOf(v.query)
	hide := strings.Join(seen.Hide, ",")
	state, before := v.query.Get("state"), v.query.Get("before")
	r, err := k.records()
	if err != nil {
		return built{}, err
	}
	unfinished, failed := len(r.unfinished), 0
	var jobs []store.Job
	err = k.Store.View(func(tx *store.Tx) (err error) {
		if jobs, err = api.JobPage(tx, state, "", before, pageSize); err != nil {
			return err
		}
		failed, err = tx.JobsIn(store.Failed).Count()
		return err
	})
	if err != nil {
		return built{}, err
	}
	j := view.Jobs{Now: v.now, CSV: address("/jobs.csv", "state", state, "hide", hide), State: state, Hidden: hiddenOf(seen.Hide), Columns: l.columnsOf(w, seen), Empty: view.Empty{Icon: "job", Title: w.T("jobs.none"), Text: w.T("jobs.none-text")}}
	for _, choice := range []struct {
		state, key string
		count      int
	}{{"", "all", -1}, {"unfinished", "unfinished", unfinished}, {string(store.WaitingForInput), "waiting", -1}, {string(store.Failed), "failed", failed}, {string(store.Succeeded), "succeeded", -1}} {
		c := view.Choice{Href: address("/jobs", "state", choice.state, "hide", hide), Text: w.T("jobs.filter-" + choice.key), Selected: choice.state == state}
		if choice.count >= 0 {
			c.Note = w.Int(int64(choice.count))
		}
		j.Filter = append(j.Filter, c)
	}
	for _, job := range jobs {
		j.Rows = append(j.Rows, jobRow(w, job))
	}
	if len(jobs) == pageSize {
		j.Older = address("/jobs", "state", state, "hide", hide, "before", jobs[len(jobs)-1].ID)
	}
	if before != "" {
		j.Newer = address("/jobs", "state", state, "hide", hide)
	}
	return built{title: w.T("jobs.title"), place: "jobs", body: view.JobsPage(j), live: true, on: []string{"job/"},
		parts: []part{{"jobs-filter", view.JobsFilter(j)}, {"jobs-list", view.JobsList(j)}}}, nil
}

func hiddenOf(hide []string) map[string]bool {
	hidden := map[string]bool{}
	for _, name := range hide {
		hidden[name] = true
	}
	return hidden
}

func jobBadge(w *view.Words, s store.JobState) view.Badge {
	b := view.Badge{Text: w.Named("job-state", string(s)), Tone: view.Mute}
	switch s {
	case store.InProgress:
		b.Tone, b.Icon = view.Info, "run"
	case store.WaitingForInput, store.WaitingToRetry:
		b.Tone, b.Icon = view.Warn, "wait"
	case store.Succeeded:
		b.Tone = view.OK
	case store.Failed:
		b.Tone = view.Bad
	}
	return b
}

func jobKind(w *view.Words, kind string) string { return w.Named("verb", kind) }

func jobRow(w *view.Words, j store.Job) view.JobRow {
	row := view.JobRow{ID: j.ID, Href: "/jobs/" + j.ID, Kind: jobKind(w, j.Kind), State: jobBadge(w, j.State), Created: j.Created, Actor: j.Actor}
	if j.Machine != "" {
		row.Machine, row.MachineURL = cmp.Or(j.Name, j.Machine), "/machines/"+j.Machine
	}
	if j.State.Ended() {
		row.Took = took(w, j.Ended.Sub(j.Created))
	} else {
		row.Running = true
		row.Progress = jobProgress(w, j)
	}
	switch n, step := jobStep(j); {
	case j.State == store.WaitingForInput:
		row.Detail, row.Progress = sentence(w.Said(j.Question)), nil
	case j.Error != nil && j.State != store.Succeeded:
		row.Detail = sentence(w.Said(j.Error.Cause))
	case step != nil:
		row.Detail = w.T("jobs.step", "N", w.Int(int64(n)), "Of", w.Int(int64(len(j.Steps))), "Step", stepName(w, step.Name))
	case j.Actor != "":
		row.Detail = w.T("jobs.by", "Actor", j.Actor)
	}
	return row
}

// jobStep is the step under way and its number; nil when the job has ended.
func jobStep(j store.Job) (int, *store.Step) {
	if j.State.Ended() {
		return 0, nil
	}
	for i := range j.Steps {
		if !j.Steps[i].State.Ended() {
			return i + 1, &j.Steps[i]
		}
	}
	return 0, nil
}

// jobProgress counts steps, and inside of the step under way what it counts.
func jobProgress(w *view.Words, j store.Job) *view.Progress {
	n, step := jobStep(j)
	if step == nil || len(j.Steps) == 0 {
		return &view.Progress{}
	}
	part := 0.0
	if step.Total > 0 {
		part = float64(min(step.Done, step.Total)) / float64(step.Total)
	}
	return &view.Progress{Percent: int((float64(n-1) + part) * 100 / float64(len(j.Steps))), Known: true}
}

// took is how long something took, no more precisely than is worth reading.
func took(w *view.Words, d time.Duration) string {
	if d > 10*time.Second {
		return w.Duration(d.Round(time.Second))
	}
	return w.Duration(d)
}

func stepName(w *view.Words, name string) string { return sentence(w.Named("step", name)) }

func (k *Console) job(v visit) (built, error) {
	var j store.Job
	err := k.Store.View(func(tx *store.Tx) (err error) {
		j, err = tx.Jobs().Get(v.id)
		return err
	})
	if err != nil {
		return built{}, err
	}
	w := v.words
	jv := view.Job{Now: v.now, ID: j.ID, Title: jobKind(w, j.Kind), State: jobBadge(w, j.State)}
	if j.Machine != "" {
		jv.Machine, jv.MachineURL = cmp.Or(j.Name, j.Machine), "/machines/"+j.Machine
	}
	jv.Facts = jobFacts(v, j)
	if j.Error != nil && j.State != store.Succeeded {
		f := findingOf(w, *j.Error)
		jv.Problem = &f
	}
	may := v.may("POST /jobs/{id}/cancel")
	if j.State == store.WaitingForInput && may {
		jv.Question = w.Said(j.Question)
	}
	if may && !j.State.Ended() && !j.CancelAsk {
		jv.Actions = append(jv.Actions, view.Action{Href: "/jobs/" + j.ID + "/cancel", Text: w.T("job.cancel"), Icon: "close", Post: true})
	}
	if may && j.State == store.Failed {
		jv.Actions = append(jv.Actions, view.Action{Href: "/jobs/" + j.ID + "/restart", Text: w.T("job.restart"), Icon: "refresh", Kind: "primary", Post: true})
	}
	if j.CancelAsk && !j.State.Ended() {
		jv.State = view.Badge{Tone: view.Warn, Icon: "wait", Text: w.T("job.canceling")}
	}
	jv.Actions = append(jv.Actions, view.Action{Href: address(logsPath, "job", j.ID, "level", "debug,info,warn,error"), Text: w.T("logs.of-job"), Icon: "log"})
	for i, s := range j.Steps {
		jv.Steps = append(jv.Steps, stepOf(w, i, s))
	}
	return built{title: jv.Title + " " + jv.Machine, place: "jobs", body: view.JobPage(jv), live: true, on: []string{"job/" + j.ID},
		parts: []part{{"job-head", view.JobHead(jv)}, {"job-steps", view.JobSteps(jv)}}}, nil
}

func jobFacts(v visit, j store.Job) []view.Fact {
	w := v.words
	list := []view.Fact{{Label: w.T("began"), Value: w.Time(j.Created)}}
	if j.State.Ended() {
		list = append(list, view.Fact{Label: w.T("took"), Value: took(w, j.Ended.Sub(j.Created))})
	} else {
		list = append(list, view.Fact{Label: w.T("took"), Since: j.Created})
	}
	if j.Actor != "" {
		list = append(list, view.Fact{Label: w.T("job.actor"), Value: j.Actor})
	}
	if j.State == store.WaitingToRetry && !j.NextTry.IsZero() && j.Attempt > 0 {
		list = append(list, view.Fact{Label: w.T("job.next"), Value: w.Short(j.NextTry, v.now), Note: w.T("job.attempt", "N", w.Int(int64(j.Attempt))), Tone: view.Warn})
	}
	for _, name := range []string{"point", "network"} {
		if value := j.Params[name]; value != "" {
			list = append(list, view.Fact{Label: w.T(name), Value: value})
		}
	}
	return list
}

func stepOf(w *view.Words, i int, s store.Step) view.Step {
	step := view.Step{ID: fmt.Sprintf("step-%d", i+1), Name: stepName(w, s.Name), State: jobBadge(w, s.State), Evidence: facts(w, s.Evidence)}
	switch {
	case !s.Ended.IsZero() && !s.Started.IsZero():
		step.Took = took(w, s.Ended.Sub(s.Started))
	case s.State == store.InProgress:
		step.Started = s.Started
		if s.Total > 0 {
			p := view.NewProgress(w, s.Done, s.Total)
			step.Progress = &p
		}
	}
	step.Open = s.State == store.Failed
	return step
}

// jobAct does something with a job and shows it again.
func (k *Console) jobAct(act func(ctx context.Context, actor, job string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		k.onward(w, r, "/jobs/"+id, act(r.Context(), userOf(r).Name, id))
	}
}

func (k *Console) answerJob(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	k.onward(w, r, "/jobs/"+id, k.Appliance.AnswerJob(r.Context(), userOf(r).Name, id, r.PostFormValue("answer")))
}
