package store

import "time"

// Answered is a call of the API that carried an idempotency key, and its answer.
// Key: its ID.
type Answered struct {
	ID      string    `json:"id"`      // hash of who asked and of the key they gave
	Request []byte    `json:"request"` // SHA-256 of method, address and content
	Run     string    `json:"run"`     // of the daemon that took it
	Began   time.Time `json:"began"`
	Status  int       `json:"status,omitempty"` // of HTTP; 0: not answered yet
	Type    string    `json:"type,omitempty"`   // of the content
	Content []byte    `json:"content,omitempty"`
	Secret  bool      `json:"secret,omitempty"` // the answer held a secret and is not kept
}

// Requests gives the calls that carried an idempotency key.
func (tx *Tx) Requests() Table[Answered] { return Requests.in(tx) }
