package view

import "time"

// PeerAsk shows who answers at the address of a site: the key of an SSH host or the
// TLS certificate of a daemon. A person compares the fingerprint and confirms it.
type PeerAsk struct {
	Title       string
	Facts       []Fact
	Fingerprint string
	Tip         string // how the host itself tells it
	Now         time.Time
}

// SiteTrust is the page on which who answers at a site is confirmed again.
type SiteTrust struct {
	Name    string
	Action  string // where the form goes
	Problem *Message
	Peer    *PeerAsk
	Ask     bool // there is something to confirm
}
