package web_test

import (
	"context"
	"strings"

	"riparo/replication"
	"riparo/web/api"
)

func (a *appliance) Notifications(context.Context) (api.Notifications, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.notify.Rules.VaultBad == 0 {
		a.notify = api.Notifications{Rules: api.AlertRules{Off: []string{"drill.due"}, SiteAwaySeconds: 120, NoProgressSeconds: 1800, VaultWarn: 75, VaultBad: 85, GatherSeconds: 30, RepeatSeconds: 43200},
			Mail: api.Mail{Security: "starttls", Recipients: []api.MailRecipient{}}, Hooks: []api.Hook{}}
	}
	n := a.notify
	n.Mail.Signs, n.Mail.Password = n.Mail.Password != "", ""
	n.Hooks = append([]api.Hook{}, n.Hooks...)
	for i := range n.Hooks {
		n.Hooks[i].Signed, n.Hooks[i].Secret = n.Hooks[i].Secret != "", ""
	}
	return n, nil
}

func (a *appliance) SaveNotifications(_ context.Context, _ string, n api.Notifications) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n.Mail.Host != "" && !strings.Contains(n.Mail.From, "@") {
		return &replication.Problem{Code: "notify.invalid", Cause: "the sender is no mail address", Effect: "nothing was changed", Action: "give it as name@domain", Remedy: replication.Stop}
	}
	for i := range n.Hooks {
		if n.Hooks[i].ID == "" {
			n.Hooks[i].ID = "h" + string(rune('1'+i))
		}
	}
	a.notify = n
	return nil
}

func (a *appliance) TestNotification(_ context.Context, _, recipient string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, recipient)
	if strings.HasPrefix(recipient, "mail:nobody") {
		return &replication.Problem{Code: "notify.mail", Cause: "the mail server did not take the message: no such mailbox", Action: "check the address", Remedy: replication.Retry}
	}
	return nil
}
