package libvirt

import (
	"encoding/binary"
	"strings"
)

// procedure is one of a program of libvirt's.
type procedure struct{ program, number uint32 }

const (
	remoteProgram = 0x20008086
	qemuProgram   = 0x20008087
)

// lifecycleEvent tells that a domain started or ended: the only event that is asked for.
var lifecycleEvent = procedure{remoteProgram, 318}

// Shapes of what libvirt says, in XDR (RFC 4506): i is a number of 4 bytes, h one of 8, u
// the 16 bytes of a UUID, s a text with its length, and what stands in brackets comes as
// often as the count before it says. Source: remote_protocol.x and qemu_protocol.x.
const (
	domainShape  = "sui"
	networkShape = "su"
	errorShape   = "iiisi" // code, domain, that there is a text, the text, level; more follows
)

// answers are the shapes of what is answered to the calls that are made here.
var answers = map[procedure]string{
	lifecycleEvent: "i" + domainShape + "ii",

	{remoteProgram, 1}:   "",    // open
	{remoteProgram, 2}:   "",    // close
	{remoteProgram, 66}:  "[i]", // list of authentications
	{remoteProgram, 70}:  "i",   // authentication by polkit
	{remoteProgram, 316}: "i",   // events wanted
	{remoteProgram, 317}: "",    // and no more

	{remoteProgram, 11}:  domainShape,                   // define a domain
	{remoteProgram, 12}:  "",                            // destroy
	{remoteProgram, 14}:  "s",                           // XML
	{remoteProgram, 23}:  domainShape,                   // look up by name
	{remoteProgram, 24}:  domainShape,                   // look up by UUID
	{remoteProgram, 28}:  "",                            // resume
	{remoteProgram, 29}:  "",                            // start by itself
	{remoteProgram, 194}: "hhh",                         // block info
	{remoteProgram, 196}: domainShape,                   // create with flags
	{remoteProgram, 212}: "ii",                          // state
	{remoteProgram, 231}: "",                            // undefine
	{remoteProgram, 234}: "",                            // destroy with flags
	{remoteProgram, 238}: "iihhh",                       // block job info
	{remoteProgram, 240}: "",                            // block pull
	{remoteProgram, 258}: "",                            // shut down
	{remoteProgram, 264}: "",                            // set metadata
	{remoteProgram, 273}: "[" + domainShape + "]" + "i", // list of domains

	{remoteProgram, 39}:  "",                             // create a network
	{remoteProgram, 41}:  networkShape,                   // define
	{remoteProgram, 42}:  "",                             // destroy
	{remoteProgram, 43}:  "s",                            // XML
	{remoteProgram, 46}:  networkShape,                   // look up by name
	{remoteProgram, 49}:  "",                             // undefine
	{remoteProgram, 152}: "i",                            // is it active
	{remoteProgram, 283}: "[" + networkShape + "]" + "i", // list of networks

	{qemuProgram, 1}: "s",   // monitor command
	{qemuProgram, 3}: "[s]", // agent command; the text may be missing
}

// fits reports whether p begins with what a shape says: the protocol's client takes memory
// for lengths and counts before it looks whether so much is there.
func fits(shape string, p []byte) bool {
	_, ok := skip(shape, p)
	return ok
}

// skip gives what is behind it.
func skip(shape string, p []byte) (rest []byte, ok bool) {
	for len(shape) > 0 {
		length := uint64(4)
		switch shape[0] {
		case 'h':
			length = 8
		case 'u':
			length = 16
		case 's', '[':
			if len(p) < 4 {
				return nil, false
			}
			length = uint64(binary.BigEndian.Uint32(p))
			p = p[4:]
		}
		if shape[0] == '[' {
			end := strings.IndexByte(shape, ']')
			if length > uint64(len(p))/4 { // nothing is shorter
				return nil, false
			}
			for range length {
				if p, ok = skip(shape[1:end], p); !ok {
					return nil, false
				}
			}
			shape = shape[end+1:]
			continue
		}
		if length = (length + 3) &^ 3; uint64(len(p)) < length {
			return nil, false
		}
		p, shape = p[length:], shape[1:]
	}
	return p, true
}
