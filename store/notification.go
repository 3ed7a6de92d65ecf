package store

import "time"

// SettingNotify holds a Notifications.
const SettingNotify = "notify"

// Notifications say of what and how people are told.
type Notifications struct {
	Rules AlertRules `json:"rules"`
	Mail  Mail       `json:"mail"`
	Hooks []Hook     `json:"hooks,omitempty"`
}

// AlertRules say what raises an alert, and how often people are told.
type AlertRules struct {
	Off []string `json:"off,omitempty"` // kinds that are not looked for
	// SiteAway is how long a site may be silent, and NoProgress how long a job may
	// stand still.
	SiteAway   time.Duration `json:"site_away"`
	NoProgress time.Duration `json:"no_progress"`
	// VaultWarn and VaultBad are percent of the volume.
	VaultWarn int `json:"vault_warn"`
	VaultBad  int `json:"vault_bad"`
	// Gather is how long a message waits for others to go with it, and Repeat how
	// often it is told again what has not ended; 0: never.
	Gather time.Duration `json:"gather"`
	Repeat time.Duration `json:"repeat"`
}

// DefaultRules are those of a fresh appliance.
func DefaultRules() AlertRules {
	return AlertRules{SiteAway: 2 * time.Minute, NoProgress: 30 * time.Minute, VaultWarn: 75, VaultBad: 85, Gather: 30 * time.Second, Repeat: 12 * time.Hour}
}

// How a connection to a mail server is protected.
const (
	MailStartTLS = "starttls"
	MailTLS      = "tls"
	MailPlain    = "none"
)

// Mail is the mail server and who gets mail.
type Mail struct {
	Host     string `json:"host,omitempty"`
	Port     int    `json:"port,omitempty"`
	Security string `json:"security,omitempty"`
	User     string `json:"user,omitempty"`
	Password []byte `json:"password,omitempty"` // sealed
	From     string `json:"from,omitempty"`
	// Authority is the PEM of the server's CA when no common one vouches for it.
	Authority  string          `json:"authority,omitempty"`
	Recipients []MailRecipient `json:"recipients,omitempty"`
}

// MailRecipient is somebody who gets mail.
type MailRecipient struct {
	Address  string `json:"address"`
	Severity string `json:"severity"` // and everything worse
	Language string `json:"language"`
	Ended    bool   `json:"ended"` // also told when it is over
}

// Hook is a web address that is told.
type Hook struct {
	ID       string `json:"id"`
	URL      string `json:"url"`
	Secret   []byte `json:"secret,omitempty"` // sealed; signs what is sent
	Severity string `json:"severity"`
	Ended    bool   `json:"ended"`
}
