package view

import "time"

// Users is the page of all accounts.
type Users struct {
	Now       time.Time
	Rows      []UserRow
	Roles     []Choice
	MinLength string
	Problem   *Message
	Name      string // kept when something was not right
	Sessions  []SessionRow
	Rule      []Choice // the roles that have to have a second factor
	RuleSaid  *Message

	Prior, Next, SessionsPrior, SessionsNext string // addresses
}

// UserRow is an account in a list.
type UserRow struct {
	Name, Role, Href string
	From             string // who knows the person, if not this appliance
	Login            time.Time
	Self             bool
	Disabled         bool
	Second           bool
}

// User is the page of one account.
type User struct {
	Now       time.Time
	Name      string
	Base      string // the address of its forms
	Self      bool
	Local     bool
	Disabled  bool
	Second    bool // one-time codes or a passkey
	Facts     []Fact
	Roles     []Choice
	MinLength string
	Message   *Message
	Sessions  []SessionRow
}
