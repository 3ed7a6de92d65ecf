package view

import (
	"net/url"
	"time"
)

// Settings is the page of one's own account and, for administrators, of those of
// others and of programs.
type Settings struct {
	Now       time.Time
	Name      string
	Role      string
	Languages []Choice
	MinLength string
	Problem   *Message // of the password

	Administrator bool
	Tokens        []TokenRow
	Secret        string // of the token just made: shown once
	Roles         []Choice
	Lives         []Choice
	TokenProblem  *Message

	Users       []UserRow
	UserProblem *Message

	About []Fact
}

// TokenRow is an API token in a list.
type TokenRow struct {
	ID, Name, Role string
	Created, Used  time.Time
	Expires        string
	Expired        bool
}

// UserRow is an account in a list.
type UserRow struct {
	Name, Role string
	Login      time.Time
	Self       bool
}

func escape(segment string) string { return url.PathEscape(segment) }
