package store

import "time"

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
	PasswordHash string    `json:"password_hash"` // argon2id, PHC string
	Language     string    `json:"language,omitempty"`
	Created      time.Time `json:"created"`
	LastLogin    time.Time `json:"last_login,omitzero"`
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
