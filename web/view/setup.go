package view

import (
	"time"

	"github.com/a-h/templ"
)

// Wizard is a step of the setup, with the steps around it.
type Wizard struct {
	Now     time.Time
	Steps   []WizardStep
	Step    string
	Number  string
	Title   string
	Lead    string
	Problem *Message
	Body    templ.Component
	Back    string // address; empty: the first step
	Submit  string // of the button that goes on
	Actions []Choice
}

// WizardStep is a step on the rail. State is done, current or ahead.
type WizardStep struct {
	Number, Title, Fact, Href, State string
}

// Tabs are the pages of the settings.
type Tabs struct{ Choices []Choice }

// General is what the appliance is called, and its clock.
type General struct {
	Name, Zone, TimeServer string
	Zones                  []string
	Clock                  []Fact
}

// Proxy is how the appliance reaches web services outside.
type Proxy struct {
	Modes       []Choice
	URL, Bypass string
}

// CertificateCard is the certificate that the console shows.
type CertificateCard struct {
	Now   time.Time
	Own   bool
	Facts []Fact
}

// VaultStep is where the vault is, or is to be.
type VaultStep struct {
	Folder string
	Fixed  string // why it stays where it is
	Probe  []Fact
	Now    time.Time
	Escrow Message
}

// SiteStep adds a site.
type SiteStep struct {
	Sites []Fact
	Now   time.Time
	Form  SiteForm
}

// CheckRow is a prerequisite check.
type CheckRow struct {
	ID, Name, Text, Cause, Action string
	Tone                          Tone
	Time                          time.Time
	Took                          string
	CanRun                        bool
}

// Checks are all of them.
type Checks struct {
	Now    time.Time
	Rows   []CheckRow
	Return string
}

// Finish sums up.
type Finish struct {
	Now   time.Time
	Facts []Fact
	Open  []Fact // steps that were left out
	Next  []Action
}
