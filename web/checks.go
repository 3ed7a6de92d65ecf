package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

func (k *Console) checksBody(v visit, s api.Setup, _ *http.Request) (templ.Component, error) {
	w := v.words
	c := view.Checks{Now: v.now, Return: "/setup/checks"}
	for _, id := range s.Checks {
		row := view.CheckRow{ID: id, Name: w.T("check." + id), Tone: view.Mute, Text: w.T("check.not-yet")}
		if done, known := s.Progress.Checks[id]; known {
			row.Tone, row.Text, row.Cause, row.Action = checkTone(done), checkText(w, done), sentence(w.Said(done.Cause)), sentence(w.Said(done.Action))
			row.Took = w.Duration(done.Took.Round(time.Millisecond))
		}
		c.Rows = append(c.Rows, row)
	}
	return view.ChecksBody(c), nil
}

func checkTone(c store.Checked) view.Tone {
	return map[string]view.Tone{store.CheckGood: view.OK, store.CheckWarn: view.Warn, store.CheckBad: view.Bad}[c.Outcome]
}

// checkText is what a check measured, in words.
func checkText(w *view.Words, c store.Checked) string {
	number := func(name string) float64 {
		n, _ := strconv.ParseFloat(c.Args[name], 64) // a missing one is shown as 0 by no text
		return n
	}
	switch {
	case c.Cause != "" && c.ID != "vault" && c.ID != "clock":
		return ""
	case c.ID == "data" && c.Args["free_bytes"] != "":
		return w.T("check.data-text", "Free", w.Bytes(int64(number("free_bytes"))))
	case c.ID == "vault" && c.Args["write_rate"] != "":
		return w.T("check.vault-text", "Speed", w.Number(number("write_rate")/1e6, 0), "Sync", w.Number(number("sync_seconds")*1000, 1), "Free", w.Bytes(int64(number("free_bytes"))))
	case c.ID == "clock" && c.Args["skew_seconds"] != "":
		return w.T("check.clock-text", "Skew", w.Number(number("skew_seconds")*1000, 0), "Server", c.Args["server"])
	case c.ID == "clock" && c.Outcome == store.CheckGood:
		return w.T("check.clock-kernel")
	case c.ID == "clock":
		return sentence(w.Said(c.Cause))
	case c.ID == "name":
		return c.Args["name"]
	case c.ID == "certificate":
		if end, err := time.Parse(time.RFC3339, c.Args["end_time"]); err == nil {
			return w.T("check.certificate-text", "End", w.Time(end))
		}
	case c.ID == "proxy":
		return w.T("setup.proxy-" + c.Args["mode"])
	case c.ID == "sites":
		return w.T("check.sites-text", "Count", c.Args["count"])
	case c.ID == "tools":
		return c.Args["path"]
	case c.ID == "mail":
		return w.T("check.mail-text", "Count", c.Args["count"])
	}
	return w.T("check.good")
}

// runCheck runs one check and goes back to where it was asked for.
func (k *Console) runCheck(w http.ResponseWriter, r *http.Request) {
	_, err := k.Appliance.Check(r.Context(), r.PathValue("id"))
	k.onward(w, r, local(r.PostFormValue("return")), err)
}

// checkAll runs them one after the other: two that measure a disk would disturb each
// other.
func (k *Console) checkAll(r *http.Request) {
	s, err := k.Appliance.Setup(r.Context())
	if err != nil {
		k.Logger.Error("the checks are not known", "error", err)
		return
	}
	for _, id := range s.Checks {
		if r.Context().Err() != nil {
			return
		}
		if _, err := k.Appliance.Check(r.Context(), id); err != nil {
			k.Logger.Error("a check could not be run", "check", id, "error", err)
		}
	}
}
