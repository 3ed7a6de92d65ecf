package store

import (
	"encoding/json"
	"time"
)

// Role says what a user may do.
type Role string

const (
	Viewer           Role = "viewer"
	Operator         Role = "operator"
	RecoveryOperator Role = "recovery operator"
	Administrator    Role = "administrator"
	Auditor          Role = "auditor"
)

// User is a person who signs in. Key: the Name in lower case.
type User struct {
	Name         string    `json:"name"`
	Role         Role      `json:"role"`
	PasswordHash string    `json:"password_hash"` // argon2id, PHC string; empty: the password is not kept here
	Language     string    `json:"language,omitempty"`
	Created      time.Time `json:"created"`
	LastLogin    time.Time `json:"last_login,omitzero"`

	Source     string        `json:"source,omitempty"`  // who knows the person: "" this appliance, or one of the Source constants
	Subject    string        `json:"subject,omitempty"` // who it is there
	Disabled   bool          `json:"disabled,omitempty"`
	MustChange bool          `json:"must_change,omitempty"` // the password was set by somebody else
	Second     *SecondFactor `json:"second,omitempty"`
	Passkeys   []Passkey     `json:"passkeys,omitempty"`

	// Views are how the person wants to see the lists of the console, by their names.
	Views map[string]ListView `json:"views,omitempty"`
}

// ListView is how somebody wants to see a list.
type ListView struct {
	Sort string   `json:"sort,omitempty"` // a column; a minus before it turns it round; empty: as the list does
	Hide []string `json:"hide,omitempty"` // columns that are not shown
}

// Sources of accounts other than the appliance itself.
const (
	SourceLDAP = "ldap"
	SourceOIDC = "oidc"
)

// SecondFactor is what shows, beside the password, that it is the person.
type SecondFactor struct {
	Secret   []byte    `json:"secret"` // of the one-time codes, sealed
	Since    time.Time `json:"since"`
	Step     int64     `json:"step"`     // the newest time step whose code was used
	Recovery [][]byte  `json:"recovery"` // SHA-256 of the recovery codes that are left
}

// Passkey is a key pair of which the person's device keeps the private half.
type Passkey struct {
	ID         []byte          `json:"id"`
	Name       string          `json:"name"`
	Host       string          `json:"host"` // the name of the appliance that it is good for
	Credential json.RawMessage `json:"credential"`
	Created    time.Time       `json:"created"`
	LastUsed   time.Time       `json:"last_used,omitzero"`
}

// Token is an API token. Key: its ID. Only a hash of the secret is kept.
type Token struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Role Role   `json:"role"`
	Hash []byte `json:"hash"` // SHA-256
	// By is the person who made it: what it asks for, that person asks for.
	By       string    `json:"by,omitempty"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`
	LastUsed time.Time `json:"last_used,omitzero"`
}

// Session is a signed-in browser. Key: its ID.
type Session struct {
	ID      string    `json:"id"` // the SHA-256 of its cookie, in hex
	Data    []byte    `json:"data"`
	Expires time.Time `json:"expires"`
}
