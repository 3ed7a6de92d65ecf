package view

import (
	"net/url"
	"time"
)

// ConfigurePage is one page of the settings with its forms.
type ConfigurePage struct {
	Now   time.Time
	Tabs  []Choice
	Title string
	Lead  string
	Said  *Message

	General     *General
	Proxy       *Proxy
	Vault       []Fact
	Wizard      bool
	Certificate *CertificateCard
	Notify      *NotifyForm
	Backup      *BackupForm
	About       []Fact
	Parts       []Part
}

// Part is a library that is part of Riparo.
type Part struct {
	Name, Version string
	File          string   // that a text is in
	Texts         []Choice // its licenses
}

// License is a license text and all that carry it.
type License struct {
	Name, Text string
	Of         []Part
}

// NotifyForm is of what and how people are told.
type NotifyForm struct {
	Kinds      []Choice // Selected: looked for
	SiteAway   string
	NoProgress string
	Warn, Bad  string
	Repeat     string
	Gather     string
	Host, Port string
	Security   []Choice
	User, From string
	Signs      bool
	Authority  string
	People     []NotifyPerson // the last one is empty: to add another
	Hooks      []NotifyHook   // the last one is empty
	Messages   []MessageRow
}

// NotifyPerson is a recipient of mail.
type NotifyPerson struct {
	Index, Address      string
	Severity, Languages []Choice
	Ended               bool
	Test                string
}

// NotifyHook is a web address that is told.
type NotifyHook struct {
	Index, ID, URL string
	Signed, Ended  bool
	Severity       []Choice
	Test           string
}

// MessageRow is a message and what became of it.
type MessageRow struct {
	To    string
	State Badge
	Text  string
	Time  time.Time
}

// BackupForm is how the appliance saves its own state.
type BackupForm struct {
	Folder, Every, Keep string
	Sealed              bool
	Newest              []Fact
	Rows                []BackupRow
}

// BackupRow is a backup in the folder.
type BackupRow struct {
	Name, Size, Version string
	Created             time.Time
	Problem             string
}

// Alerts is what is not as it should be, and what was.
type Alerts struct {
	Now          time.Time
	Active, Past []AlertItem
}

func escape(segment string) string { return url.PathEscape(segment) }
