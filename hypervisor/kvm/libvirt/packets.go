package libvirt

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// Packets of libvirt's protocol: length, program, version, procedure, type, serial and
// status, 4 bytes each, big endian, and a payload.
const (
	packetHeader = 28
	// maxPacket is libvirt's own bound of a message (VIR_NET_MESSAGE_MAX, 32 MiB).
	maxPacket       = 32<<20 + packetHeader
	packetProgram   = 4
	packetProcedure = 12
	packetType      = 16
	packetSerial    = 20
	packetStatus    = 24
	messagePacket   = 2 // an event; all other types answer a call
	statusError     = 1
)

// packets is a connection to a daemon that lets only whole packets through that fit what
// was asked. The protocol's client believes lengths: it ends the process at one below that
// of a header, and takes 100 GiB for a list that is said to be so long. It takes an answer
// for an event if its procedure is that of one. And it waits for ever when a call is
// answered twice.
type packets struct {
	net.Conn

	// Of the one that reads.
	packet []byte // what is left of the packet under way

	// Of the one that writes.
	left int // bytes of the packet under way that are still to come

	mu      sync.Mutex // guards waiting
	waiting map[uint32]procedure
}

func newPackets(c net.Conn) *packets { return &packets{Conn: c, waiting: map[uint32]procedure{}} }

// Read gives what the daemon says, packet by packet.
func (c *packets) Read(p []byte) (int, error) {
	for len(c.packet) == 0 {
		packet, err := readPacket(c.Conn)
		if err != nil {
			return 0, err
		}
		wanted, err := c.expected(packet)
		if err != nil {
			return 0, err
		}
		if wanted {
			c.packet = packet
		}
	}
	n := copy(p, c.packet)
	c.packet = c.packet[n:]
	return n, nil
}

// readPacket reads one packet. It takes memory for what has arrived, whatever the
// length says.
func readPacket(r io.Reader) ([]byte, error) {
	head := make([]byte, packetHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head)
	if length < packetHeader || length > maxPacket {
		return nil, fmt.Errorf("libvirt sent a packet of %d bytes: want %d to %d", length, packetHeader, maxPacket)
	}
	rest, err := io.ReadAll(io.LimitReader(r, int64(length)-packetHeader))
	if err == nil && len(rest) < int(length)-packetHeader {
		err = io.ErrUnexpectedEOF
	}
	return append(head, rest...), err
}

// expected reports whether a packet is an event that was asked for, or the first answer to
// a call. The error is that of an answer which is none.
func (c *packets) expected(packet []byte) (bool, error) {
	serial, payload := packet[packetSerial:][:4], packet[packetHeader:]
	said := procedureOf(packet)
	if binary.BigEndian.Uint32(packet[packetType:]) == messagePacket {
		clear(serial) // no call has it
		return said == lifecycleEvent && fits(answers[said], payload), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := binary.BigEndian.Uint32(serial)
	asked, known := c.waiting[n]
	if !known {
		return false, nil
	}
	delete(c.waiting, n)
	shape, known := answers[asked]
	status := binary.BigEndian.Uint32(packet[packetStatus:])
	if status == statusError {
		shape = errorShape
	}
	if !known || said != asked || status > statusError || !fits(shape, payload) {
		return false, fmt.Errorf("libvirt sent %d bytes that are no answer to procedure %d of program %x", len(payload), asked.number, asked.program)
	}
	return true, nil
}

func procedureOf(packet []byte) procedure {
	return procedure{binary.BigEndian.Uint32(packet[packetProgram:]), binary.BigEndian.Uint32(packet[packetProcedure:])}
}

// Write sends to the daemon, and notes which answers are to come. The first bytes of a
// packet come in one piece.
func (c *packets) Write(p []byte) (int, error) {
	if c.left == 0 && len(p) >= packetHeader {
		c.left = int(binary.BigEndian.Uint32(p))
		c.mu.Lock()
		c.waiting[binary.BigEndian.Uint32(p[packetSerial:])] = procedureOf(p)
		c.mu.Unlock()
	}
	c.left = max(0, c.left-len(p))
	return c.Conn.Write(p)
}
