package notify

import (
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// Shown are the settings without their secrets.
func (n *Notifier) Shown() (api.Notifications, error) {
	s, err := n.Settings()
	r := s.Rules
	out := api.Notifications{Hooks: []api.Hook{},
		Rules: api.AlertRules{Off: append([]string{}, r.Off...), SiteAwaySeconds: api.Seconds(r.SiteAway), NoProgressSeconds: api.Seconds(r.NoProgress), VaultWarn: r.VaultWarn, VaultBad: r.VaultBad,
			GatherSeconds: api.Seconds(r.Gather), RepeatSeconds: api.Seconds(r.Repeat)},
		Mail: api.Mail{Host: s.Mail.Host, Port: s.Mail.Port, Security: cmp.Or(s.Mail.Security, store.MailStartTLS), User: s.Mail.User, Signs: len(s.Mail.Password) > 0, From: s.Mail.From,
			Authority: s.Mail.Authority, Recipients: []api.MailRecipient{}}}
	for _, m := range s.Mail.Recipients {
		out.Mail.Recipients = append(out.Mail.Recipients, api.MailRecipient(m))
	}
	for _, h := range s.Hooks {
		out.Hooks = append(out.Hooks, api.Hook{ID: h.ID, URL: h.URL, Signed: len(h.Secret) > 0, Severity: h.Severity, Ended: h.Ended})
	}
	return out, err
}

// Save judges settings and keeps them. Secrets that are empty stay as they were.
func (n *Notifier) Save(actor string, in api.Notifications) error {
	return n.Store.Update(func(tx *store.Tx) error {
		old, err := settingsIn(tx)
		if err != nil {
			return err
		}
		s, err := n.taken(old, in)
		if err != nil {
			return err
		}
		return errors.Join(tx.SetSetting(store.SettingNotify, s), tx.AddEvent(store.Event{Severity: store.SeverityInfo, Code: "notify.saved",
			Text: "the notifications were changed by " + actor, Args: map[string]string{"actor": actor}}))
	})
}

func wrong(cause, action string) error {
	return &replication.Problem{Code: "notify.invalid", Cause: cause, Effect: "nothing was changed", Action: action, Remedy: replication.Stop}
}

func (n *Notifier) taken(old store.Notifications, in api.Notifications) (store.Notifications, error) {
	r := in.Rules
	s := store.Notifications{Rules: store.AlertRules{Off: r.Off, SiteAway: time.Duration(r.SiteAwaySeconds) * time.Second, NoProgress: time.Duration(r.NoProgressSeconds) * time.Second,
		VaultWarn: r.VaultWarn, VaultBad: r.VaultBad, Gather: time.Duration(r.GatherSeconds) * time.Second, Repeat: time.Duration(r.RepeatSeconds) * time.Second}}
	for _, kind := range r.Off {
		if !slices.Contains(Kinds(), kind) {
			return s, wrong(fmt.Sprintf("there is no kind of alert %q", kind), "choose among "+strings.Join(Kinds(), ", "))
		}
	}
	if r.VaultWarn > r.VaultBad || r.VaultWarn < 1 || r.VaultBad > 100 {
		return s, wrong("the marks of the vault are out of order", "choose the warning below the critical mark, both from 1 to 100 percent")
	}
	if s.Rules.NoProgress < time.Minute || s.Rules.SiteAway < 0 || s.Rules.Repeat != 0 && s.Rules.Repeat < 10*time.Minute {
		return s, wrong("a time is too short", "let jobs stand still for a minute or more, and repeat every ten minutes or more, or never")
	}
	m := in.Mail
	s.Mail = store.Mail{Host: strings.TrimSpace(m.Host), Port: m.Port, Security: cmp.Or(m.Security, store.MailStartTLS), User: m.User, Password: old.Mail.Password, From: strings.TrimSpace(m.From), Authority: strings.TrimSpace(m.Authority)}
	if m.Password != "" {
		s.Mail.Password = n.Secret.Seal(m.Password)
	}
	if s.Mail.User == "" {
		s.Mail.Password = nil
	}
	for _, to := range m.Recipients {
		s.Mail.Recipients = append(s.Mail.Recipients, store.MailRecipient(to))
	}
	if err := checkMail(s.Mail); err != nil {
		return s, err
	}
	var err error
	s.Hooks, err = n.takenHooks(old.Hooks, in.Hooks)
	return s, err
}

func checkMail(m store.Mail) error {
	if m.Host == "" {
		if len(m.Recipients) > 0 {
			return wrong("there are recipients of mail and no mail server", "give the mail server, or remove the recipients")
		}
		return nil
	}
	if _, known := mailPorts[m.Security]; !known {
		return wrong(fmt.Sprintf("there is no protection of mail %q", m.Security), "choose starttls, tls or none")
	}
	if !isAddress(m.From) {
		return wrong(fmt.Sprintf("the sender %q is no mail address", m.From), "give it as name@domain")
	}
	seen := map[string]bool{}
	for _, r := range m.Recipients {
		switch {
		case !isAddress(r.Address):
			return wrong(fmt.Sprintf("the recipient %q is no mail address", r.Address), "give it as name@domain")
		case seen[strings.ToLower(r.Address)]:
			return wrong(fmt.Sprintf("the recipient %s is there twice", r.Address), "name each once")
		case rank(r.Severity) < 0:
			return wrong(fmt.Sprintf("there is no severity %q", r.Severity), "choose info, warning or critical")
		}
		seen[strings.ToLower(r.Address)] = true
	}
	if m.Authority != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(m.Authority)) {
		return wrong("the authority of the mail server is no certificate", "give it as PEM, beginning with -----BEGIN CERTIFICATE-----")
	}
	return nil
}

func isAddress(text string) bool {
	a, err := mail.ParseAddress(text)
	return err == nil && a.Address == text
}

func (n *Notifier) takenHooks(old []store.Hook, in []api.Hook) ([]store.Hook, error) {
	var all []store.Hook
	for _, h := range in {
		u, err := url.Parse(h.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
			return nil, wrong(fmt.Sprintf("%q is no web address", h.URL), "give it as https://HOST/PATH, without a name and password")
		}
		if rank(h.Severity) < 0 {
			return nil, wrong(fmt.Sprintf("there is no severity %q", h.Severity), "choose info, warning or critical")
		}
		hook := store.Hook{ID: h.ID, URL: h.URL, Severity: h.Severity, Ended: h.Ended}
		if i := slices.IndexFunc(old, func(o store.Hook) bool { return o.ID == h.ID }); i >= 0 {
			hook.Secret = old[i].Secret
			// A secret goes only where it was meant to go.
			if before, err := url.Parse(old[i].URL); err != nil || before.Host != u.Host {
				hook.Secret = nil
			}
		} else {
			hook.ID = strings.ToLower(rand.Text()[:8])
		}
		if h.Secret != "" {
			hook.Secret = n.Secret.Seal(h.Secret)
		}
		all = append(all, hook)
	}
	return all, nil
}
