package store

import (
	"time"

	"riparo/replication"
)

// ApprovalState is where a request for a second pair of eyes is.
type ApprovalState string

const (
	ApprovalWaiting  ApprovalState = "waiting"
	ApprovalGranted  ApprovalState = "granted"
	ApprovalRefused  ApprovalState = "refused"
	ApprovalExpired  ApprovalState = "expired"
	ApprovalObsolete ApprovalState = "failed" // granted, and what was asked for could not be done any more
)

// Approval is something that one administrator asked for and another has to approve.
// Key: its ID, which sorts by time.
type Approval struct {
	ID      string                `json:"id"`
	Kind    string                `json:"kind"` // "delete-points", "unpin-point", "disable-protection", "shorten-retention", "change-user", "ease-second-factor", "confirm-clock", "change-sign-in", "erase-kept"
	Machine replication.MachineID `json:"machine,omitempty"`
	Name    string                `json:"name,omitempty"` // of the machine or the policy, for people
	Text    string                `json:"text"`           // what will be done, as a sentence
	State   ApprovalState         `json:"state"`

	Points    []replication.PointID `json:"points,omitempty"`
	Protected []replication.PointID `json:"protected,omitempty"` // those of them that were it when it was asked for
	Disks     []replication.DiskID  `json:"disks,omitempty"`     // all that is to be erased
	Policy    *replication.Policy   `json:"policy,omitempty"`
	Was       *replication.Policy   `json:"was,omitempty"` // the policy when it was asked for
	User      *UserRequest          `json:"user,omitempty"`
	Second    *SecondRule           `json:"second,omitempty"`
	SecondWas *SecondRule           `json:"second_was,omitempty"` // the rule when it was asked for
	SignOn    *SignOnRequest        `json:"sign_on,omitempty"`
	Ahead     time.Duration         `json:"ahead,omitempty"` // of the clock, when it was asked to take it

	RequestedBy string    `json:"requested_by"` // a person, never a token's name
	Requested   time.Time `json:"requested"`
	Expires     time.Time `json:"expires"`
	DecidedBy   string    `json:"decided_by,omitempty"`
	Decided     time.Time `json:"decided,omitzero"`
	Result      string    `json:"result,omitempty"` // why it could not be done
}

// UserRequest is what is to become of the account that an approval is about.
type UserRequest struct {
	Kind         string `json:"kind"` // "role", "disable", "enable", "password", "second", "remove"
	Role         Role   `json:"role,omitempty"`
	PasswordHash string `json:"password_hash,omitempty"` // not told by the API
	Was          string `json:"was,omitempty"`           // what opened the account when it was asked for, as a SHA-256
}

// SignOnRequest is what a sign-in service is to become.
type SignOnRequest struct {
	Service  string `json:"service"`          // "openid" or "directory"
	Was      string `json:"was,omitempty"`    // what was kept of it when it was asked for, as a SHA-256
	Settings string `json:"settings"`         // JSON
	Sealed   []byte `json:"sealed,omitempty"` // the secret; not told by the API
}
