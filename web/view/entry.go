package view

import "time"

// Setup is the page that claims a fresh appliance.
type Setup struct {
	Token, Name string // kept when something was not right
	Languages   []Choice
	Problem     *Message
	MinLength   string
}

// Restore brings a backup back instead of setting up anew.
type Restore struct {
	Now     time.Time
	Token   string
	Problem *Message
	Taken   []Fact // what the backup that came says of itself; empty: none came yet
	File    string // of a backup that is on this computer already
	Vault   string
	Address string
	Done    string // what came back
}

// Login is the page to sign in.
type Login struct {
	Name    string
	Next    string
	Problem *Message
	Service string // the name of the sign-in service, if there is one
}

// beginningHref is the address of a way to begin; the token goes along.
func beginningHref(path, token string) string {
	if token == "" {
		return path
	}
	return path + "?token=" + escapeQuery(token)
}
