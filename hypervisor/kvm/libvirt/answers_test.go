package libvirt

import (
	"encoding/binary"
	"errors"
	"net"
	"reflect"
	"runtime"
	"strings"
	"testing"

	rpc "github.com/digitalocean/go-libvirt"
)

// calls are all that are made of libvirt here.
var calls = []func(*rpc.Libvirt) error{
	func(l *rpc.Libvirt) error { _, _, err := l.ConnectListAllDomains(1, 0); return err },
	func(l *rpc.Libvirt) error { _, _, err := l.ConnectListAllNetworks(1, 0); return err },
	func(l *rpc.Libvirt) error { return l.DomainBlockPull(rpc.Domain{}, "vda", 0, 0) },
	func(l *rpc.Libvirt) error { _, err := l.DomainCreateWithFlags(rpc.Domain{}, 0); return err },
	func(l *rpc.Libvirt) error { _, err := l.DomainDefineXML(""); return err },
	func(l *rpc.Libvirt) error { return l.DomainDestroy(rpc.Domain{}) },
	func(l *rpc.Libvirt) error { return l.DomainDestroyFlags(rpc.Domain{}, 0) },
	func(l *rpc.Libvirt) error { _, _, _, err := l.DomainGetBlockInfo(rpc.Domain{}, "vda", 0); return err },
	func(l *rpc.Libvirt) error {
		_, _, _, _, _, err := l.DomainGetBlockJobInfo(rpc.Domain{}, "vda", 0)
		return err
	},
	func(l *rpc.Libvirt) error { _, _, err := l.DomainGetState(rpc.Domain{}, 0); return err },
	func(l *rpc.Libvirt) error { _, err := l.DomainGetXMLDesc(rpc.Domain{}, 0); return err },
	func(l *rpc.Libvirt) error { _, err := l.DomainLookupByName("web01"); return err },
	func(l *rpc.Libvirt) error { _, err := l.DomainLookupByUUID(rpc.UUID{}); return err },
	func(l *rpc.Libvirt) error { return l.DomainResume(rpc.Domain{}) },
	func(l *rpc.Libvirt) error { return l.DomainSetAutostart(rpc.Domain{}, 0) },
	func(l *rpc.Libvirt) error { return l.DomainSetMetadata(rpc.Domain{}, 0, nil, nil, nil, 0) },
	func(l *rpc.Libvirt) error { return l.DomainShutdownFlags(rpc.Domain{}, 0) },
	func(l *rpc.Libvirt) error { return l.DomainUndefineFlags(rpc.Domain{}, 0) },
	func(l *rpc.Libvirt) error { return l.NetworkCreate(rpc.Network{}) },
	func(l *rpc.Libvirt) error { _, err := l.NetworkDefineXML(""); return err },
	func(l *rpc.Libvirt) error { return l.NetworkDestroy(rpc.Network{}) },
	func(l *rpc.Libvirt) error { _, err := l.NetworkGetXMLDesc(rpc.Network{}, 0); return err },
	func(l *rpc.Libvirt) error { _, err := l.NetworkIsActive(rpc.Network{}); return err },
	func(l *rpc.Libvirt) error { _, err := l.NetworkLookupByName("default"); return err },
	func(l *rpc.Libvirt) error { return l.NetworkUndefine(rpc.Network{}) },
	func(l *rpc.Libvirt) error { _, err := l.QEMUDomainAgentCommand(rpc.Domain{}, "{}", 1, 0); return err },
	func(l *rpc.Libvirt) error { _, err := l.QEMUDomainMonitorCommand(rpc.Domain{}, "{}", 0); return err },
	func(l *rpc.Libvirt) error { _, err := l.ConnectDomainEventCallbackRegisterAny(0, nil); return err },
	func(l *rpc.Libvirt) error { return l.ConnectDomainEventCallbackDeregisterAny(1) },
}

// liar is a daemon that answers what somebody made up, once it is connected to.
type liar struct {
	near, far net.Conn
	answer    func(call []byte) [][]byte // packets
}

func newLiar(answer func(call []byte) [][]byte) *liar {
	near, far := net.Pipe()
	d := &liar{near, far, answer}
	go d.serve()
	return d
}

func (d *liar) Dial() (net.Conn, error) { return newPackets(d.near), nil }

func (d *liar) serve() {
	defer d.far.Close()
	for {
		call, err := readPacket(d.far)
		if err != nil {
			return
		}
		serial := binary.BigEndian.Uint32(call[packetSerial:])
		said := [][]byte{packetOf(procedureOf(call), 1, serial, "")}
		switch asked := procedureOf(call); asked {
		case procedure{remoteProgram, 66}: // one way to authenticate: none
			said = [][]byte{packetOf(asked, 1, serial, "\x00\x00\x00\x01\x00\x00\x00\x00")}
		case procedure{remoteProgram, 1}, closing:
		default:
			said = d.answer(call)
		}
		for _, p := range said {
			if _, err := d.far.Write(p); err != nil {
				return
			}
		}
	}
}

// asks connects to a daemon, makes a call and gives what came of it.
func asks(t *testing.T, d *liar, call func(*rpc.Libvirt) error) error {
	t.Helper()
	l := rpc.NewWithDialer(d)
	if err := l.ConnectToURI(rpc.QEMUSystem); err != nil {
		t.Fatal(err)
	}
	err := call(l)
	d.far.Close()
	<-l.Disconnected()
	return err
}

// like is the shortest payload of a shape.
func like(shape string) string {
	return strings.NewReplacer("i", "\x00\x00\x00\x01", "h", "\x00\x00\x00\x00\x00\x00\x00\x02", "u", "0123456789abcdef", "s", "\x00\x00\x00\x05web01\x00\x00\x00",
		"[", "\x00\x00\x00\x01", "]", "").Replace(shape)
}

// TestEveryCallUnderstandsItsAnswer: the shape that is expected of an answer is the one
// that the protocol's client decodes.
func TestEveryCallUnderstandsItsAnswer(t *testing.T) {
	for i, call := range calls {
		var asked procedure
		answer := func(call []byte) [][]byte {
			asked = procedureOf(call)
			shape, known := answers[asked]
			if !known {
				return nil
			}
			return [][]byte{packetOf(asked, 1, binary.BigEndian.Uint32(call[packetSerial:]), like(shape))}
		}
		d := newLiar(answer)
		if err := asks(t, d, func(l *rpc.Libvirt) error {
			err := call(l)
			if _, known := answers[asked]; !known {
				t.Errorf("call %d is procedure %v, and nothing says what its answer looks like", i, asked)
			}
			return err
		}); err != nil {
			t.Errorf("call %d, procedure %v: %v", i, asked, err)
		}
		if shape := answers[asked]; shape != "" && fits(shape, []byte(like(shape))[:len(like(shape))-1]) {
			t.Errorf("procedure %v: an answer that is a byte too short passes", asked)
		}
	}
}

// TestALengthThatIsNotThereTakesNoMemory: the client would take 100 GiB for the list.
func TestALengthThatIsNotThereTakesNoMemory(t *testing.T) {
	for _, payload := range []string{
		"\x7f\xff\xff\xff", "\x00\x00\x00\x01\x7f\xff\xff\xff", "\x00\x00\x00\x02\x00\x00\x00\x05web01\x00\x00\x000123456789abcdef\x00\x00\x00\x01", "",
	} {
		d := newLiar(func(call []byte) [][]byte {
			return [][]byte{packetOf(procedureOf(call), 1, binary.BigEndian.Uint32(call[packetSerial:]), payload)}
		})
		if err := asks(t, d, calls[0]); !errors.Is(err, rpc.ErrInterrupted) {
			t.Errorf("%q as a list of domains: %v, want the connection to end", payload, err)
		}
	}
	other := newLiar(func(call []byte) [][]byte { // what is no answer to this call
		return [][]byte{packetOf(lifecycleEvent, 1, binary.BigEndian.Uint32(call[packetSerial:]), event)}
	})
	if err := asks(t, other, calls[0]); !errors.Is(err, rpc.ErrInterrupted) {
		t.Errorf("an event in the place of an answer: %v, want the connection to end", err)
	}
}

// TestALifecycleEventIsUnderstood: it comes through, and is of the domain that it names; one
// that is none does not.
func TestALifecycleEventIsUnderstood(t *testing.T) {
	var got rpc.DomainEventLifecycleMsg
	d := newLiar(func(call []byte) [][]byte {
		answer := packetOf(procedureOf(call), 1, binary.BigEndian.Uint32(call[packetSerial:]), "\x00\x00\x00\x01")
		if procedureOf(call).number == 316 {
			return [][]byte{answer}
		}
		return [][]byte{packet(messagePacket, 0, strings.Repeat("\xff", 40)), packet(messagePacket, 0, event), answer}
	})
	err := asks(t, d, func(l *rpc.Libvirt) error {
		events, err := l.LifecycleEvents(t.Context())
		if err != nil {
			return err
		}
		if _, err = l.NetworkIsActive(rpc.Network{}); err == nil {
			got = <-events
		}
		return err
	})
	want := rpc.DomainEventLifecycleMsg{Dom: rpc.Domain{Name: "web01", UUID: rpc.UUID([]byte("0123456789abcdef")), ID: -1}, Event: 5, Detail: 1}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// mostMemory is what an answer may take, beside its own length some times: far less than
// what a length in it can ask for.
const mostMemory = 8 << 20

// FuzzAnswers lets a daemon answer each call with what is none, and tell of events that are
// none. The call ends, and takes no more memory than the answer has bytes, some times.
func FuzzAnswers(f *testing.F) {
	for i := range calls {
		f.Add(uint8(i), uint32(0), []byte("\x00\x00\x00\x01\x00\x00\x00\x05web01\x00\x00\x000123456789abcdef\x00\x00\x00\x01\x00\x00\x00\x01"))
	}
	f.Add(uint8(0), uint32(0), []byte("\x7f\xff\xff\xff"))
	f.Add(uint8(25), uint32(0), []byte("\x00\x00\x00\x01\x00\x00\x00\x03{}\n"))
	f.Add(uint8(11), uint32(1), []byte(like("iiisi")))
	f.Add(uint8(11), uint32(2), []byte(event))
	f.Fuzz(func(t *testing.T, which uint8, status uint32, payload []byte) {
		d := newLiar(func(call []byte) [][]byte {
			answer := packetOf(procedureOf(call), 1, binary.BigEndian.Uint32(call[packetSerial:]), string(payload))
			binary.BigEndian.PutUint32(answer[packetStatus:], status)
			return [][]byte{packet(messagePacket, 0, string(payload)), answer}
		})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = asks(t, d, calls[int(which)%len(calls)])
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > mostMemory+64*uint64(len(payload)) {
			t.Fatalf("an answer of %d bytes took %d bytes of memory", len(payload), took)
		}
	})
}
