package web

import (
	"net/http"
	"strconv"
	"strings"

	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// auditPage shows what was asked for and what came of it, newest first.
func (k *Console) auditPage(v visit) (built, error) {
	w := v.words
	a := view.AuditLog{Now: v.now, Search: strings.TrimSpace(v.query.Get("q")),
		Empty: view.Empty{Icon: "shield", Title: w.T("audit.none"), Text: w.T("audit.none-text")}}
	before, _ := strconv.ParseUint(v.query.Get("before"), 10, 64) // what is no number is the end
	rows, next, err := k.auditRows(v, before, a.Search)
	if err != nil {
		return built{}, err
	}
	a.Rows = rows
	if next > 0 {
		a.Older = address("/audit", "q", a.Search, "before", strconv.FormatUint(next, 10))
	}
	if before > 0 {
		a.Newest = address("/audit", "q", a.Search)
	}
	if v.query.Get("verify") == "now" {
		if err := k.verifyAudit(v, &a); err != nil {
			return built{}, err
		}
	}
	return built{title: w.T("audit.title"), place: "audit", body: view.AuditPage(a)}, nil
}

func (k *Console) verifyAudit(v visit, a *view.AuditLog) error {
	r, err := k.Audit.Verify(v.ctx)
	if err != nil {
		return err
	}
	w := v.words
	a.Verdict = &view.Message{Tone: view.OK, Cause: w.N("audit.sound", r.Lines), Effect: w.T("audit.sound-text")}
	if !r.Sound {
		a.Verdict = &view.Message{Tone: view.Bad, Cause: w.T("audit.unsound"), Effect: w.T("audit.unsound-text"), Action: w.T("audit.unsound-do")}
		for _, f := range r.Findings {
			a.Faults = append(a.Faults, sentence(w.Said(f)))
		}
	}
	return nil
}

// maxAuditScan bounds how far back one page looks for what is searched: some 30 ms of
// work. What is older is a page away.
const maxAuditScan = 5000

// auditRows reads a page of rows: what was asked for, with the outcome that stands
// behind it in the log. next is where the following page begins, 0 at the end.
func (k *Console) auditRows(v visit, before uint64, search string) (rows []view.AuditRow, next uint64, err error) {
	outcomes := map[uint64]store.AuditLine{}
	for scanned := 0; scanned < maxAuditScan; {
		lines, err := k.Audit.Page(before, store.MaxPage)
		if err != nil {
			return nil, 0, err
		}
		for _, line := range lines {
			before = line.Sequence
			if line.Of > 0 {
				outcomes[line.Of] = line
				continue
			}
			row := auditRow(v.words, line, outcomes[line.Sequence])
			delete(outcomes, line.Sequence)
			if search != "" && !strings.Contains(strings.ToLower(strings.Join([]string{row.Who, row.Address, row.Action, line.Action, row.Object, row.Detail, row.Before, row.After}, " ")), strings.ToLower(search)) {
				continue
			}
			if rows = append(rows, row); len(rows) == pageSize {
				return rows, before, nil
			}
		}
		if scanned += len(lines); len(lines) < store.MaxPage {
			return rows, 0, nil
		}
	}
	return rows, before, nil
}

// auditRow joins a line with its outcome, if there is one.
func auditRow(w *view.Words, line, outcome store.AuditLine) view.AuditRow {
	row := view.AuditRow{ID: strconv.FormatUint(line.Sequence, 10), Time: line.Time, Who: line.Actor, Role: w.Named("role", string(line.Role)), Address: line.Address,
		Action: w.Named("action", line.Action), Object: line.Object, Detail: line.Detail, Before: line.Before, After: line.After}
	if line.Role == "" {
		row.Role = ""
	}
	said := line.Outcome
	if outcome.Sequence > 0 {
		said = outcome.Outcome
		row.Before, row.After = outcome.Before, outcome.After
		if outcome.Object != "" {
			row.Object = outcome.Object
		}
	}
	tone := map[string]view.Tone{store.AuditDone: view.OK, store.AuditRefused: view.Warn, store.AuditFailed: view.Bad}[said]
	row.Outcome = view.Badge{Tone: tone, Text: w.Named("outcome", said)}
	return row
}

// exportAudit gives the whole log as a file.
func (k *Console) exportAudit(w http.ResponseWriter, r *http.Request) {
	if err := api.ExportAudit(w, r, k.Audit); err != nil {
		k.Logger.Error("the audit log was not exported as a whole", "error", err)
		panic(http.ErrAbortHandler) // a short file must not look like a whole one
	}
}
