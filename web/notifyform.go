package web

import (
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

// alertKinds are those of appliance/notify, which the console does not import.
var alertKinds = []string{"rpo.breached", "health.critical", "site.away", "job.failed", "job.stuck", "vault.full", "clock.ahead", "drill.due", "backup.failed", "certificate.ending", "message.lost"}

var severities = []string{store.SeverityInfo, store.SeverityWarning, store.SeverityCritical}

func severityChoices(w *view.Words, chosen string) (list []view.Choice) {
	for _, s := range severities {
		list = append(list, view.Choice{Value: s, Text: w.T("notify.from-" + s), Selected: s == chosen})
	}
	return list
}

// notifyForm fills the form from the settings, or from what was posted.
func (k *Console) notifyForm(v visit, form *http.Request) (*view.NotifyForm, error) {
	w := v.words
	n, err := k.Appliance.Notifications(v.ctx)
	if err != nil {
		return nil, err
	}
	if form != nil && form.PostFormValue("recipient") == "" {
		posted, _ := postedNotifications(form) // what could not be read is shown as it was
		posted.Mail.Signs = n.Mail.Signs
		n = posted
	}
	text := func(seconds int64) string { return written(time.Duration(seconds) * time.Second) }
	f := &view.NotifyForm{SiteAway: text(n.Rules.SiteAwaySeconds), NoProgress: text(n.Rules.NoProgressSeconds), Gather: text(n.Rules.GatherSeconds), Repeat: text(n.Rules.RepeatSeconds),
		Warn: strconv.Itoa(n.Rules.VaultWarn), Bad: strconv.Itoa(n.Rules.VaultBad), Host: n.Mail.Host, User: n.Mail.User, From: n.Mail.From, Signs: n.Mail.Signs, Authority: n.Mail.Authority}
	if n.Mail.Port > 0 {
		f.Port = strconv.Itoa(n.Mail.Port)
	}
	for _, kind := range alertKinds {
		f.Kinds = append(f.Kinds, view.Choice{Value: kind, Text: w.T("notify.kind-" + strings.ReplaceAll(kind, ".", "-")), Selected: !slices.Contains(n.Rules.Off, kind)})
	}
	for _, s := range []string{store.MailStartTLS, store.MailTLS, store.MailPlain} {
		f.Security = append(f.Security, view.Choice{Value: s, Text: w.T("notify.security-" + s), Selected: s == n.Mail.Security})
	}
	people := append(slices.Clone(n.Mail.Recipients), api.MailRecipient{Severity: store.SeverityWarning, Language: w.Lang(), Ended: true})
	for i, p := range people {
		row := view.NotifyPerson{Index: strconv.Itoa(i + 1), Address: p.Address, Severity: severityChoices(w, p.Severity), Ended: p.Ended}
		for _, l := range view.Languages {
			row.Languages = append(row.Languages, view.Choice{Value: l, Text: view.LanguageName(l), Selected: l == p.Language})
		}
		if p.Address != "" && n.Mail.Host != "" {
			row.Test = "mail:" + p.Address
		}
		f.People = append(f.People, row)
	}
	for i, h := range append(slices.Clone(n.Hooks), api.Hook{Severity: store.SeverityWarning, Ended: true}) {
		row := view.NotifyHook{Index: strconv.Itoa(i + 1), ID: h.ID, URL: h.URL, Signed: h.Signed, Ended: h.Ended, Severity: severityChoices(w, h.Severity)}
		if h.ID != "" {
			row.Test = "hook:" + h.ID
		}
		f.Hooks = append(f.Hooks, row)
	}
	return f, k.messageRows(v, n, f)
}

// maxMessages is how many messages a page shows.
const maxMessages = 20

func (k *Console) messageRows(v visit, n api.Notifications, f *view.NotifyForm) error {
	w := v.words
	return k.Store.View(func(tx *store.Tx) error {
		page, err := tx.Deliveries().Page("", maxMessages, true)
		for _, d := range page {
			_, to, _ := strings.Cut(d.Channel, ":")
			for _, h := range n.Hooks {
				if h.ID == to {
					to = h.URL
				}
			}
			row := view.MessageRow{To: to, Time: d.Created, State: view.Badge{Tone: view.Info, Text: w.T("notify.waiting")}}
			switch {
			case !d.Sent.IsZero():
				row.State, row.Time = view.Badge{Tone: view.OK, Text: w.T("notify.arrived")}, d.Sent
			case !d.GivenUp.IsZero():
				row.State, row.Time = view.Badge{Tone: view.Bad, Text: w.T("notify.lost")}, d.GivenUp
			case d.Attempts > 0:
				row.State.Tone = view.Warn
			}
			switch {
			case d.Problem != nil:
				row.Text = sentence(w.Said(d.Problem.Cause))
			case d.Test:
				row.Text = w.T("mail.test-subject")
			default:
				row.Text = w.N("notify.alerts", len(d.Items)+d.More)
			}
			f.Messages = append(f.Messages, row)
		}
		return err
	})
}

// maxRecipients bounds what a form is asked for.
const maxRecipients = 50

// postedNotifications reads the form. The first thing that cannot be read is the error.
func postedNotifications(r *http.Request) (n api.Notifications, err error) {
	value := r.PostFormValue
	duration := func(name string) int64 {
		d, readErr := readDuration(value(name))
		if readErr != nil && err == nil {
			err = &replication.Problem{Code: "notify.invalid", Cause: readErr.Error(), Effect: "nothing was changed", Action: "change it and save again", Remedy: replication.Stop}
		}
		return int64(d / time.Second)
	}
	number := func(name string) int {
		i, _ := strconv.Atoi(strings.TrimSpace(value(name))) // 0 is refused where it makes no sense
		return i
	}
	n.Rules = api.AlertRules{Off: []string{}, SiteAwaySeconds: duration("site_away"), NoProgressSeconds: duration("no_progress"), GatherSeconds: duration("gather"), RepeatSeconds: duration("repeat"),
		VaultWarn: number("vault_warn"), VaultBad: number("vault_bad")}
	for _, kind := range alertKinds {
		if !slices.Contains(r.PostForm["kind"], kind) {
			n.Rules.Off = append(n.Rules.Off, kind)
		}
	}
	n.Mail = api.Mail{Host: value("host"), Port: number("port"), Security: value("security"), User: value("user"), Password: value("password"), From: value("from"), Authority: value("authority"), Recipients: []api.MailRecipient{}}
	n.Hooks = []api.Hook{}
	for i := range maxRecipients {
		at := "-" + strconv.Itoa(i+1)
		if address := strings.TrimSpace(value("address" + at)); address != "" {
			n.Mail.Recipients = append(n.Mail.Recipients, api.MailRecipient{Address: address, Severity: value("severity" + at), Language: value("language" + at), Ended: value("ended"+at) == "yes"})
		}
		if url := strings.TrimSpace(value("url" + at)); url != "" {
			n.Hooks = append(n.Hooks, api.Hook{ID: value("hook" + at), URL: url, Secret: value("secret" + at), Severity: value("hook-severity" + at), Ended: value("hook-ended"+at) == "yes"})
		}
	}
	return n, err
}

func (k *Console) applyNotifications(r *http.Request, actor string) error {
	n, err := postedNotifications(r)
	if err != nil {
		return err
	}
	return k.Appliance.SaveNotifications(r.Context(), actor, n)
}

// testNotification sends a message to one recipient and tells what became of it.
func (k *Console) testNotification(w http.ResponseWriter, r *http.Request) {
	err := k.Appliance.TestNotification(r.Context(), userOf(r).Name, r.PostFormValue("recipient"))
	if err == nil {
		k.back(w, r, "/settings/notifications?sent=1")
		return
	}
	v := k.visitOf(r)
	b, buildErr := k.configure(v, "notifications", r, err)
	if buildErr != nil {
		k.fail(w, r, buildErr)
		return
	}
	k.print(w, v, b)
}
