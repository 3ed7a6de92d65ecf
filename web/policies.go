package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

func (k *Console) policies(v visit) (built, error) {
	r, err := k.records()
	if err != nil {
		return built{}, err
	}
	w := v.words
	p := view.Policies{Now: v.now, CanAdd: v.may("POST /policies")}
	if p.Approvals, err = k.approvals(v); err != nil {
		return built{}, err
	}
	for _, name := range slices.Sorted(keysOf(r.policies)) {
		p.Rows = append(p.Rows, policyCard(v, r, r.policies[name]))
	}
	return built{title: w.T("policies.title"), place: "policies", body: view.PoliciesPage(p), live: true, on: []string{"policy/", "machine/", "approval/"},
		parts: []part{{"policies-list", view.PoliciesList(p)}, {"policies-approvals", view.PoliciesApprovals(p)}}}, nil
}

func policyCard(v visit, r records, p replication.Policy) view.PolicyCard {
	w := v.words
	limit := w.T("off")
	if p.BytesPerSecond > 0 {
		limit = w.Rate(float64(p.BytesPerSecond))
	}
	c := view.PolicyCard{Name: p.Name, Used: w.N("policy.used", followers(r, p.Name)), Facts: []view.Fact{
		{Label: w.T("policy.copy"), Value: w.Setting(p.CopyFrequency)}, {Label: w.T("policy.app"), Value: w.Setting(p.AppConsistentFrequency)},
		{Label: w.T("policy.threshold"), Value: w.Setting(p.RPOThreshold)}, {Label: w.T("policy.limit-short"), Value: limit},
		{Label: w.T("policy.retention"), Value: retentionText(w, p.Retention), Across: true}}}
	if p.LockFor > 0 {
		c.Facts = append(c.Facts, view.Fact{Label: w.T("policy.lock"), Value: w.Duration(p.LockFor), Note: w.T("policy.lock-note"), Across: true})
	}
	if v.may("POST /policies") {
		c.Edit = &view.Action{Href: "/policies/" + pathSegment(p.Name), Text: w.T("edit"), Icon: "edit", Kind: "small", Dialog: true}
	}
	return c
}

func followers(r records, policy string) int {
	n := 0
	for _, m := range r.machines {
		if m.Policy == policy {
			n++
		}
	}
	return n
}

// retentionText is a retention in words: all for 1 h, every 5 min for 24 h.
func retentionText(w *view.Words, r replication.Retention) string {
	var parts []string
	for _, rule := range r {
		if rule.Every == 0 {
			parts = append(parts, w.T("policy.keep-all", "Until", w.Duration(rule.Until)))
		} else {
			parts = append(parts, w.T("policy.keep-every", "Every", w.Duration(rule.Every), "Until", w.Duration(rule.Until)))
		}
	}
	return strings.Join(parts, ", ")
}

// policyForm makes a policy or changes one. A new one begins as the default.
func (k *Console) policyForm(v visit) (built, error) {
	if v.id == "" {
		p := replication.DefaultPolicy()
		p.Name = ""
		return k.policyFormWith(v, formOf(p, true), nil), nil
	}
	var p store.Policy
	err := k.Store.View(func(tx *store.Tx) (err error) {
		p, err = tx.Policies().Get(v.id)
		return err
	})
	if err != nil {
		return built{}, err
	}
	r, err := k.records()
	if err != nil {
		return built{}, err
	}
	f := formOf(p.Policy, false)
	f.Used = v.words.N("policy.used-lead", followers(r, p.Name))
	return k.policyFormWith(v, f, nil), nil
}

func (k *Console) policyFormWith(v visit, f view.PolicyForm, problem error) built {
	if f.New {
		f.Used = v.words.T("policy.add-lead")
	}
	b := built{title: v.words.T("policy"), place: "policies"}
	if problem != nil {
		m := messageOf(v.words, replication.AsProblem(problem))
		f.Problem, b.status = &m, http.StatusUnprocessableEntity
	}
	b.body = view.PolicyFormPage(f)
	return b
}

func formOf(p replication.Policy, isNew bool) view.PolicyForm {
	f := view.PolicyForm{New: isNew, Name: p.Name, Copy: written(p.CopyFrequency), App: written(p.AppConsistentFrequency),
		Freeze: written(p.FreezeLimit), Threshold: written(p.RPOThreshold), Retention: p.Retention.String(), Lock: written(p.LockFor)}
	if p.BytesPerSecond > 0 {
		f.Limit = strconv.FormatFloat(float64(p.BytesPerSecond)/(1<<20), 'f', -1, 64)
	}
	return f
}

// written is a duration as a form takes it: 0, 30s, 15m, 1h, 30d.
func written(d time.Duration) string {
	const day = 24 * time.Hour
	if d == 0 {
		return "0"
	}
	if d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (k *Console) savePolicy(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	f := k.postedPolicy(r)
	f.New = r.PostFormValue("new") == "true"
	p, err := policyOf(f)
	if err == nil && f.New {
		err = k.newPolicy(p.Name)
	}
	if err == nil {
		err = k.Appliance.SavePolicy(r.Context(), api.Who{Name: v.user.Name, Person: v.user.Name}, p)
	}
	if err != nil {
		k.print(w, v, k.policyFormWith(v, f, err))
		return
	}
	k.back(w, r, "/policies")
}

// newPolicy refuses a name that is taken: a form for a new policy must not change
// an old one.
func (k *Console) newPolicy(name string) error {
	return k.Store.View(func(tx *store.Tx) error {
		if _, err := tx.Policies().Get(name); err == nil {
			return &replication.Problem{Code: "policy.exists", Cause: fmt.Sprintf("there is a policy %s already", name), Action: "choose another name", Remedy: replication.Stop}
		}
		return nil
	})
}

// policyOf reads a form. What is wrong is said by the field.
func policyOf(f view.PolicyForm) (replication.Policy, error) {
	p := replication.Policy{Name: f.Name}
	invalid := func(err error) error {
		return &replication.Problem{Code: "policy.invalid", Cause: err.Error(), Action: "change it and save again", Remedy: replication.Stop, Err: err}
	}
	for _, field := range []struct {
		name, text string
		into       *time.Duration
	}{{"copy frequency", f.Copy, &p.CopyFrequency}, {"application-consistent frequency", f.App, &p.AppConsistentFrequency},
		{"freeze limit", f.Freeze, &p.FreezeLimit}, {"RPO threshold", f.Threshold, &p.RPOThreshold}, {"locked for", f.Lock, &p.LockFor}} {
		d, err := readDuration(field.text)
		if err != nil {
			return p, invalid(fmt.Errorf("%s: %w", field.name, err))
		}
		*field.into = d
	}
	var err error
	if p.Retention, err = replication.ParseRetention(f.Retention); err != nil {
		return p, invalid(err)
	}
	if f.Limit != "" {
		mib, err := strconv.ParseFloat(strings.ReplaceAll(f.Limit, ",", "."), 64)
		if err != nil || mib < 0 || mib > 1<<20 {
			return p, invalid(fmt.Errorf("limit: %q is not a number of MiB per second", f.Limit))
		}
		p.BytesPerSecond = int64(mib * (1 << 20))
	}
	if err := p.Check(); err != nil {
		return p, invalid(err)
	}
	return p, nil
}

// readDuration reads 30s, 15m, 1h30m, 2d; 0 and off are 0, and spaces and "min"
// are forgiven.
func readDuration(text string) (time.Duration, error) {
	plain := strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(strings.ReplaceAll(text, " ", "")), "min", "m"), "sec", "s")
	if plain == "0" || plain == "off" || plain == "no" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(plain, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 3650 {
			return 0, fmt.Errorf("%q is not a number of days", text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(plain)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 30s, 15m or 1h", text)
	}
	return d, nil
}
