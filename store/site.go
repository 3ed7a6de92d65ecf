package store

import "time"

// Site is a place where machines run and how to reach it. Key: its Name.
type Site struct {
	Name string `json:"name"`
	// Kind: lab, kvm-qmp, kvm-libvirt.
	Kind string `json:"kind"`
	// Address: a folder for lab and kvm-qmp, a libvirt URI for kvm-libvirt.
	Address string `json:"address"`
	// Fingerprint is the SHA-256 of the TLS certificate that a person confirmed; empty:
	// an authority vouches for the place, or it is not reached over TLS.
	Fingerprint string    `json:"fingerprint,omitempty"`
	Created     time.Time `json:"created"`
	// Reachable and Problem are the outcome of the last contact.
	Contacted time.Time `json:"contacted,omitzero"`
	Reachable bool      `json:"reachable"`
	Problem   *Finding  `json:"problem,omitempty"`
}
