// Package redact takes secrets out of what is written down or handed out: the log,
// the support bundle. It knows secrets by their name (password, token, …), by their
// look (a bearer header, a private key, a password inside of an address) and, where
// a caller has collected them, by their value.
//
// What it takes out cannot be brought back; what stands around it stays readable.
package redact
