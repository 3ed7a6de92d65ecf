// Package discovery keeps the sites open: it connects to each configured place,
// lists its machines, watches them, and hands out providers and their optional
// capabilities. It is the only place where a capability is asserted.
//
// A site that cannot be reached stays configured; its problem is remembered and
// contact is tried again. Nothing here decides what to do about a machine.
package discovery
