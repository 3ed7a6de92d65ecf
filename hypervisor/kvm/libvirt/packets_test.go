package libvirt

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// closing is a call whose answer says nothing.
var closing = procedure{remoteProgram, 2}

// packet is one of the protocol.
func packet(kind, serial uint32, payload string) []byte {
	which := closing
	if kind == messagePacket {
		which = lifecycleEvent
	}
	return packetOf(which, kind, serial, payload)
}

func packetOf(which procedure, kind, serial uint32, payload string) []byte {
	b := make([]byte, packetHeader, packetHeader+len(payload))
	binary.BigEndian.PutUint32(b, uint32(packetHeader+len(payload)))
	binary.BigEndian.PutUint32(b[packetProgram:], which.program)
	binary.BigEndian.PutUint32(b[packetProcedure:], which.number)
	binary.BigEndian.PutUint32(b[packetType:], kind)
	binary.BigEndian.PutUint32(b[packetSerial:], serial)
	return append(b, payload...)
}

// heard is a connection that says what it is given and forgets what it is told.
type heard struct {
	net.Conn
	io.Reader
}

func (h heard) Read(p []byte) (int, error)  { return h.Reader.Read(p) }
func (h heard) Write(p []byte) (int, error) { return len(p), nil }

// event is that the domain web01 ended.
const event = "\x00\x00\x00\x01\x00\x00\x00\x05web01\x00\x00\x000123456789abcdef\xff\xff\xff\xff\x00\x00\x00\x05\x00\x00\x00\x01"

func TestACallIsAnsweredOnce(t *testing.T) {
	var said bytes.Buffer
	for _, p := range [][]byte{packet(1, 7, "yes"), packet(1, 7, "twice"), packet(1, 9, "nobody asked"), packet(messagePacket, 8, event), packet(messagePacket, 8, "an event that is none"), packet(1, 8, "")} {
		said.Write(p)
	}
	c := newPackets(heard{Reader: &said})
	for _, call := range [][]byte{packet(0, 7, "a call that comes"), []byte(""), packet(0, 8, "")} {
		if _, err := c.Write(call); err != nil {
			t.Fatal(err)
		}
	}
	got, err := io.ReadAll(c)
	want := bytes.Join([][]byte{packet(1, 7, "yes"), packet(messagePacket, 0, event), packet(1, 8, "")}, nil)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// FuzzPackets hears what a daemon says that is none. Only whole packets come through,
// each the first answer to a call or an event.
func FuzzPackets(f *testing.F) {
	f.Add(append(packet(1, 1, "ok"), packet(messagePacket, 1, event)...))
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, said []byte) {
		c := newPackets(heard{Reader: bytes.NewReader(said)})
		for serial := uint32(1); serial < 4; serial++ {
			c.Write(packet(0, serial, ""))
		}
		through, _ := io.ReadAll(c)
		answered := map[uint32]bool{}
		for len(through) > 0 {
			if len(through) < packetHeader {
				t.Fatalf("%d bytes are no packet", len(through))
			}
			n := binary.BigEndian.Uint32(through)
			if n < packetHeader || int64(n) > int64(len(through)) {
				t.Fatalf("a packet of %d bytes, and %d came through", n, len(through))
			}
			serial, event := binary.BigEndian.Uint32(through[packetSerial:]), binary.BigEndian.Uint32(through[packetType:]) == messagePacket
			if event != (serial == 0) || !event && (serial > 3 || answered[serial]) {
				t.Fatalf("an answer to call %d, which nobody waits for; event %v", serial, event)
			}
			answered[serial] = !event
			through = through[n:]
		}
	})
}
