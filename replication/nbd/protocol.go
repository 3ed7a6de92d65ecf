package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Numbers of the NBD protocol, as in its document "The NBD protocol"
// (NetworkBlockDevice/nbd, doc/proto.md). Everything is big-endian.
const (
	magicServer     = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOptionRep  = 0x0003e889045565a9
	magicOldstyle   = 0x00420281861253
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef

	// DefaultPort is what nbd:// means without a port.
	DefaultPort = "10809"
)

// Handshake flags, of the server and of the client.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Transmission flags: what an export can do.
const (
	flagHasFlags    = 1 << 0
	flagReadOnly    = 1 << 1
	flagFlush       = 1 << 2
	flagFUA         = 1 << 3
	flagTrim        = 1 << 5
	flagWriteZeroes = 1 << 6
	flagDF          = 1 << 7
	flagMultiConn   = 1 << 8
)

// Options of the handshake.
const (
	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optStartTLS        = 5
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMetaContext = 9
	optSetMetaContext  = 10
)

// Replies to options; those with the highest bit are errors.
const (
	repAck         = 1
	repServer      = 2
	repInfo        = 3
	repMetaContext = 4

	repError         = 1 << 31
	repErrUnsup      = repError + 1
	repErrPolicy     = repError + 2
	repErrInvalid    = repError + 3
	repErrTLSReqd    = repError + 5
	repErrUnknown    = repError + 6
	repErrShutdown   = repError + 7
	repErrBlockSize  = repError + 8
	repErrTooBig     = repError + 9
	repErrExtHeaders = repError + 10
)

// Kinds of information about an export.
const (
	infoExport      = 0
	infoName        = 1
	infoDescription = 2
	infoBlockSize   = 3
)

// Commands of the transmission phase.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7
)

// Flags of a command.
const (
	cmdFlagFUA      = 1 << 0
	cmdFlagNoHole   = 1 << 1
	cmdFlagDF       = 1 << 2
	cmdFlagReqOne   = 1 << 3
	cmdFlagFastZero = 1 << 4
)

// Chunks of a structured reply.
const (
	chunkFlagDone = 1 << 0

	chunkNone        = 0
	chunkOffsetData  = 1
	chunkOffsetHole  = 2
	chunkBlockStatus = 5
	chunkError       = 1<<15 + 1
	chunkErrorOffset = 1<<15 + 2
	chunkErrorBit    = 1 << 15
)

// Names and flags of metadata contexts.
const (
	// AllocationContext tells which parts of a disk are holes and which are zero.
	AllocationContext = "base:allocation"
	// DirtyBitmapPrefix begins the names of contexts that tell what was written.
	DirtyBitmapPrefix = "qemu:dirty-bitmap:"

	// StateHole, in base:allocation: no space is allocated.
	StateHole = 1 << 0
	// StateZero, in base:allocation: every byte reads as zero.
	StateZero = 1 << 1
	// StateDirty, in qemu:dirty-bitmap:NAME: written since the bitmap began.
	StateDirty = 1 << 0
)

// Limits that both ends keep.
const (
	// maxPayload is the most data of one read or write: what QEMU and the
	// protocol's document call portable.
	maxPayload = 32 << 20
	// maxName is the protocol's limit for names and other strings.
	maxName = 4096
	// maxStatusLength is how much of a disk one BLOCK_STATUS may ask about: the
	// largest multiple of 1 MiB that fits the 32 bits of a length.
	maxStatusLength = 1<<32 - 1<<20

	requestHeaderLength = 28
	simpleHeaderLength  = 16
	chunkHeaderLength   = 20
)

// commandName is for people.
func commandName(command uint16) string {
	switch command {
	case cmdRead:
		return "read"
	case cmdWrite:
		return "write"
	case cmdDisconnect:
		return "disconnect"
	case cmdFlush:
		return "flush"
	case cmdTrim:
		return "trim"
	case cmdWriteZeroes:
		return "write zeroes"
	case cmdBlockStatus:
		return "block status"
	}
	return fmt.Sprintf("command %d", command)
}

// errProtocol marks what a peer sent that the protocol does not allow. Nothing it
// says afterwards can be trusted, so the connection ends.
var errProtocol = errors.New("the peer broke the NBD protocol")

func protocolErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, args...))
}

// appendString appends s with its length before it, as the protocol writes names.
func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// cutString takes a string with its length before it from the front of b.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if n > maxName || int(n) > len(b)-4 {
		return "", nil, false
	}
	return string(b[4 : 4+n]), b[4+n:], true
}
