package api

import "time"

// SecondOffer is what a program for one-time codes has to know: as a picture and as
// a text. It is shown once.
type SecondOffer struct {
	Secret string // base 32, in groups of four
	URL    string // otpauth://…
	Image  []byte // PNG
	// Sealed is the secret for its confirmation; who keeps it meanwhile cannot read it.
	Sealed string
}

// Strength is how much guessing a password withstands.
type Strength struct {
	Guesses float64 // as a power of ten
	Score   int     // 0 to 4; 4 is enough
	Enough  bool
}

// Session is a signed-in browser.
type Session struct {
	ID      string    `json:"id" doc:"The hash of its cookie."`
	User    string    `json:"user"`
	Address string    `json:"address"`
	Agent   string    `json:"agent"`
	Began   time.Time `json:"began"`
	Used    time.Time `json:"used" doc:"To the minute."`
	Ends    time.Time `json:"ends" doc:"At the latest."`
	Current bool      `json:"-"` // of whoever asks
}
