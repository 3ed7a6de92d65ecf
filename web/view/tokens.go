package view

import "time"

// Tokens is the page of API tokens.
type Tokens struct {
	Now     time.Time
	Rows    []TokenRow
	Secret  string // of the token just made: shown once
	Scopes  []Choice
	Lives   []Choice
	Problem *Message
}

// TokenRow is an API token in a list.
type TokenRow struct {
	ID, Name, Scope string
	By              string // who made it; empty: nobody knows
	Created, Used   time.Time
	Expires         string
	Expired         bool
}
