package api

import (
	"context"
	"net/http"
	"time"

	"riparo/store"
)

// Notifying is of what and how people are told.
type Notifying interface {
	Notifications(ctx context.Context) (Notifications, error)
	SaveNotifications(ctx context.Context, actor string, n Notifications) error
	// TestNotification sends a message to one recipient now: "mail:ADDRESS" or
	// "hook:ID".
	TestNotification(ctx context.Context, actor, recipient string) error
}

// Notifications say of what and how people are told. Secrets go in and never come out.
type Notifications struct {
	Rules AlertRules `json:"rules"`
	Mail  Mail       `json:"mail"`
	Hooks []Hook     `json:"hooks" nullable:"false"`
}

// AlertRules say what raises an alert, and how often people are told.
type AlertRules struct {
	Off               []string `json:"off" nullable:"false" doc:"Kinds of alerts that are not looked for."`
	SiteAwaySeconds   int64    `json:"site_away_seconds" minimum:"10" maximum:"86400"`
	NoProgressSeconds int64    `json:"no_progress_seconds" minimum:"60" maximum:"604800"`
	VaultWarn         int      `json:"vault_warn" minimum:"1" maximum:"100" doc:"Percent of the volume."`
	VaultBad          int      `json:"vault_bad" minimum:"1" maximum:"100" doc:"Percent of the volume."`
	GatherSeconds     int64    `json:"gather_seconds" minimum:"0" maximum:"3600" doc:"How long a message waits for others to go with it."`
	RepeatSeconds     int64    `json:"repeat_seconds" minimum:"0" maximum:"2592000" doc:"How often it is told again what has not ended; 0: never."`
}

// Mail is the mail server and who gets mail.
type Mail struct {
	Host       string          `json:"host" maxLength:"253"`
	Port       int             `json:"port" minimum:"0" maximum:"65535" doc:"0: the usual one."`
	Security   string          `json:"security" enum:"starttls,tls,none"`
	User       string          `json:"user" maxLength:"320"`
	Password   string          `json:"password,omitempty" maxLength:"1024" doc:"Empty: as before."`
	Signs      bool            `json:"signs,omitempty" readOnly:"true" doc:"There is a password."`
	From       string          `json:"from" maxLength:"320"`
	Authority  string          `json:"authority" maxLength:"20000" doc:"PEM of the CA when no common one vouches for the server."`
	Recipients []MailRecipient `json:"recipients" nullable:"false" maxItems:"50"`
}

// MailRecipient is somebody who gets mail.
type MailRecipient struct {
	Address  string `json:"address" maxLength:"320"`
	Severity string `json:"severity" enum:"info,warning,critical" doc:"And everything worse."`
	Language string `json:"language" enum:"en,it"`
	Ended    bool   `json:"ended" doc:"Also told when it is over."`
}

// Hook is a web address that is told.
type Hook struct {
	ID       string `json:"id,omitempty" maxLength:"64" doc:"Empty: a new one."`
	URL      string `json:"url" maxLength:"2000"`
	Secret   string `json:"secret,omitempty" maxLength:"1024" doc:"Signs what is sent. Empty: as before; of a new one, none."`
	Signed   bool   `json:"signed,omitempty" readOnly:"true" doc:"There is a secret."`
	Severity string `json:"severity" enum:"info,warning,critical"`
	Ended    bool   `json:"ended"`
}

type notifyInput struct{ Body Notifications }

type testInput struct {
	Body struct {
		Recipient string `json:"recipient" doc:"mail:ADDRESS or hook:ID"`
	}
}

type alertsInput struct {
	Active bool   `query:"active" doc:"Only those that have not ended."`
	Before string `query:"before" doc:"Older than this one."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) notifications() {
	const tag = "Alerts"
	add(a, operation{id: "list-alerts", method: "GET", path: "/api/v1/alerts", tag: tag, summary: "Alerts, newest first"},
		func(ctx context.Context, in *alertsInput) (*body[[]store.Alert], error) {
			list, err := a.listAlerts(in)
			return answer(list, err)
		})
	add(a, operation{id: "get-notifications", method: "GET", path: "/api/v1/notifications", tag: tag, summary: "Of what and how people are told"},
		func(ctx context.Context, _ *none) (*body[Notifications], error) {
			return answer(a.Appliance.Notifications(ctx))
		})
	add(a, operation{id: "save-notifications", method: "PUT", path: "/api/v1/notifications", tag: tag, summary: "Say of what and how people are told"},
		func(ctx context.Context, in *notifyInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.SaveNotifications(ctx, callerOf(ctx).Name, in.Body))
		})
	add(a, operation{id: "test-notification", method: "POST", path: "/api/v1/notifications/test", tag: tag, summary: "Send a message to one recipient now"},
		func(ctx context.Context, in *testInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.TestNotification(ctx, callerOf(ctx).Name, in.Body.Recipient))
		})
	add(a, operation{id: "list-deliveries", method: "GET", path: "/api/v1/notifications/messages", tag: tag, summary: "The newest messages and what became of them"},
		func(ctx context.Context, _ *none) (*body[[]store.Delivery], error) {
			list := []store.Delivery{}
			err := a.Store.View(func(tx *store.Tx) (err error) {
				list, err = tx.Deliveries().Page("", 100, true)
				return err
			})
			return answer(list, err)
		})
}

func (a *API) listAlerts(in *alertsInput) ([]store.Alert, error) {
	list := []store.Alert{}
	err := a.Store.View(func(tx *store.Tx) (err error) {
		if in.Active {
			list, err = tx.ActiveAlerts().Page(in.Before, in.Limit, true)
			return err
		}
		list, err = tx.Alerts().Page(in.Before, in.Limit, true)
		return err
	})
	return list, err
}

// Alerts lists alerts, newest first.
func (c *Client) Alerts(ctx context.Context, active bool) ([]store.Alert, error) {
	only := ""
	if active {
		only = "true"
	}
	return get[[]store.Alert](ctx, c, "/api/v1/alerts", queryOf("active", only))
}

// Notifications says of what and how people are told.
func (c *Client) Notifications(ctx context.Context) (Notifications, error) {
	return get[Notifications](ctx, c, "/api/v1/notifications", nil)
}

// SaveNotifications changes that.
func (c *Client) SaveNotifications(ctx context.Context, n Notifications) error {
	return c.call(ctx, http.MethodPut, "/api/v1/notifications", nil, n, nil)
}

// Seconds is a duration as the API has it.
func Seconds(d time.Duration) int64 { return int64(d / time.Second) }
