package view

import "time"

// Account is the page of one's own account.
type Account struct {
	Now        time.Time
	Name, Role string
	Local      bool // the password is kept here
	From       string
	MustChange bool
	MustSecond bool // nothing else can be done before there is a second factor
	MinLength  string
	Languages  []Choice
	Password   *Message

	Second    bool // one-time codes are on
	Since     time.Time
	Left      string // recovery codes
	FewLeft   bool
	SecondSay *Message
	Codes     []string // recovery codes just made: shown once

	Passkeys   []PasskeyRow
	PasskeySay *Message

	Sessions []SessionRow
}

// PasskeyRow is a passkey in a list.
type PasskeyRow struct {
	Name, Host, Remove string
	Created, Used      time.Time
}

// SecondSetup is the page that turns one-time codes on.
type SecondSetup struct {
	Image   string // data:image/png;base64,…
	Secret  string
	URL     string
	Problem *Message
}

// SecondLogin is the second step of a sign-in.
type SecondLogin struct {
	Name    string
	Next    string
	Problem *Message
}

// SessionRow is a signed-in browser in a list.
type SessionRow struct {
	ID, User, Address, Agent string
	Began, Used              time.Time
	Current                  bool
	End                      string // the address that ends it
}

// Strength is the estimate of a password.
type Strength struct {
	Score   int // 0 to 4
	Enough  bool
	Verdict string
	Text    string
}

// scoreTone colors a meter.
func (s Strength) tone() Tone {
	switch {
	case s.Enough:
		return OK
	case s.Score >= 2:
		return Warn
	}
	return Bad
}
