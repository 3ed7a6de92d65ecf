package web

import (
	"net/http"
	"strconv"
	"strings"

	"riparo/store"
	"riparo/web/api"
)

// machinesSheet is the list of protected machines as a file: those that the page
// shows with the same filter, on all of its pages, without what its columns hide. A
// program that asks for no columns has all.
func (k *Console) machinesSheet(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	recs, err := k.records()
	if err != nil {
		k.fail(w, r, err)
		return
	}
	rep := k.Appliance.Report()
	s := sheet{name: "machines", head: []string{"machine", "name", "health", "why", "state", "rpo_seconds", "rpo_threshold_seconds", "source", "target", "policy", "disks", "size_bytes", "last_recovery_point",
		"last_test_failover", "last_test_passed"}}
	f := machineFilterOf(v.query)
	for _, m := range k.chosenMachines(f, recs, rep, v.now) {
		age, known := rpo(m, rep.Machines[m.ID], v.now)
		seconds, size, tested, passed, why := "", int64(0), "", "", []string{}
		if known && counted(m) {
			seconds = decimal(age.Seconds(), 0)
		}
		for _, d := range m.Disks {
			size += d.Size
		}
		if m.LastDrill != nil {
			tested, passed = instant(m.LastDrill.Finished), strconv.FormatBool(m.LastDrill.Passed)
		}
		for _, f := range m.Health.Findings {
			why = append(why, f.Cause)
		}
		s.rows = append(s.rows, []string{string(m.ID), m.Name, string(m.Health.Level), strings.Join(why, "; "), string(m.State), seconds, decimal(recs.policies[m.Policy].RPOThreshold.Seconds(), 0),
			m.Source.Site, m.Target.Site, m.Policy, strconv.Itoa(len(m.Disks)), strconv.FormatInt(size, 10), instant(pointTime(m, rep.Machines[m.ID])), tested, passed})
	}
	k.sendSheet(w, shown(s, machineFileColumns, f.hide))
}

// machineFileColumns are those of the file that go with a column of the page.
var machineFileColumns = map[string][]string{"health": {"health", "why"}, "state": {"state"}, "rpo": {"rpo_seconds", "rpo_threshold_seconds", "last_recovery_point"},
	"route": {"source", "target", "policy"}, "drill": {"last_test_failover", "last_test_passed"}}

// jobFileColumns likewise.
var jobFileColumns = map[string][]string{"machine": {"machine", "name"}, "progress": {"state", "step", "cause"}, "began": {"created"}, "took": {"ended", "seconds"}}

// mostJobs is how many jobs a file has: all that are kept.
const mostJobs = store.MaxJobs

// jobsSheet is the list of jobs as a file, the newest first.
func (k *Console) jobsSheet(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s := sheet{name: "jobs", head: []string{"job", "kind", "machine", "name", "by", "state", "created", "ended", "seconds", "step", "cause"}}
	before := ""
	for len(s.rows) < mostJobs {
		var page []store.Job
		err := k.Store.View(func(tx *store.Tx) (err error) {
			page, err = api.JobPage(tx, q.Get("state"), q.Get("machine"), before, store.MaxPage)
			return err
		})
		if err != nil {
			k.fail(w, r, err)
			return
		}
		for _, j := range page {
			seconds, step, cause := "", "", ""
			if j.State.Ended() {
				seconds = decimal(j.Ended.Sub(j.Created).Seconds(), 1)
			}
			if _, at := jobStep(j); at != nil {
				step = at.Name
			}
			if j.Error != nil && j.State != store.Succeeded {
				cause = j.Error.Cause
			}
			s.rows = append(s.rows, []string{j.ID, j.Kind, j.Machine, j.Name, j.Actor, string(j.State), instant(j.Created), instant(j.Ended), seconds, step, cause})
		}
		if len(page) < store.MaxPage {
			break
		}
		before = page[len(page)-1].ID
	}
	l, _ := listNamed("jobs")
	k.sendSheet(w, shown(s, jobFileColumns, l.viewOf(q).Hide))
}
