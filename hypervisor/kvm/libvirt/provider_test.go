//go:build linux

package libvirt_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/kvmtest"
	"riparo/hypervisor/kvm/libvirt"
	"riparo/hypervisor/kvm/qmp"
	"riparo/hypervisor/providertest"

	"encoding/json"
)

func TestTheHostKeepsTheContractOfProviders(t *testing.T) {
	h := newSession(t)
	providertest.Run(t, providertest.Harness{
		Open:    h.open,
		Source:  func(t *testing.T, _ hypervisor.Provider) providertest.Machine { return h.source(t, "web01") },
		Reopen:  func(t *testing.T, _ hypervisor.Provider) hypervisor.Provider { return h.open(t) },
		Network: "user",
		Deaf:    true,
	})
}

// session is a daemon, and a connection of the test's own to it.
type session struct {
	*daemon
	client *rpc.Libvirt
}

func newSession(t *testing.T) *session {
	t.Helper()
	s := &session{daemon: startDaemon(t)}
	uri, err := url.Parse(s.uri())
	if err != nil {
		t.Fatal(err)
	}
	if s.client, err = rpc.ConnectToURI(uri); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		domains, _, err := s.client.ConnectListAllDomains(1, 0)
		if err != nil {
			t.Error(err)
		}
		for _, dom := range domains {
			s.client.DomainDestroy(dom)
		}
		s.client.Disconnect()
	})
	return s
}

func (s *session) open(t *testing.T) hypervisor.Provider { return s.host(t) }

func (s *session) host(t *testing.T) *libvirt.Host {
	t.Helper()
	h, err := libvirt.Open(t.Context(), s.uri(), libvirt.Options{Folder: filepath.Join(s.folder, "riparo"), DomainType: "qemu"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (s *session) define(t *testing.T, text string) hypervisor.Ref {
	t.Helper()
	dom, err := s.client.DomainDefineXML(text)
	if err != nil {
		t.Fatal(err)
	}
	u := dom.UUID
	return hypervisor.Ref(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

func (s *session) domain(t *testing.T, ref hypervisor.Ref) rpc.Domain {
	t.Helper()
	var u rpc.UUID
	var parts [5]string
	if _, err := fmt.Sscanf(string(ref), "%8s-%4s-%4s-%4s-%12s", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4]); err != nil {
		t.Fatal(err)
	}
	for i, b := range []byte(parts[0] + parts[1] + parts[2] + parts[3] + parts[4]) {
		digit := b - '0'
		if b >= 'a' {
			digit = b - 'a' + 10
		}
		u[i/2] = u[i/2]<<4 | digit
	}
	dom, err := s.client.DomainLookupByUUID(u)
	if err != nil {
		t.Fatal(err)
	}
	return dom
}

// source defines a machine with a raw disk and a qcow2 disk and no guest to speak of.
func (s *session) source(t *testing.T, name string) *idleMachine {
	t.Helper()
	content := kvmtest.Disks()
	disks := ""
	for i, key := range []string{"vda", "vdb"} {
		format := []string{"raw", "qcow2"}[i]
		path := filepath.Join(s.folder, name+"-"+key)
		kvmtest.Image(t, path, format, content[key])
		disks += fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='%s' discard='unmap'/><source file='%s'/><target dev='%s' bus='virtio'/></disk>`, format, path, key)
	}
	ref := s.define(t, fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os><features><acpi/></features><devices>%s
<interface type='user'><mac address='52:54:00:aa:bb:cc'/><model type='virtio'/></interface>
<serial type='file'><source path='%s/%s.serial'/><target port='0'/></serial>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel><memballoon model='none'/></devices></domain>`, name, disks, s.folder, name))
	place := kvmtest.Place{
		Device: func(key string) string {
			return fmt.Sprintf("/machine/peripheral/virtio-disk%d/virtio-backend", key[2]-'a')
		},
		Execute: func(t *testing.T, ref hypervisor.Ref, command string, arguments map[string]any, result any) {
			t.Helper()
			s.monitor(t, ref, command, arguments, result)
		},
		Backing: s.backing,
	}
	return &idleMachine{kvmtest.NewIdle(place, ref, content), s}
}

// monitor gives a command to the QEMU of a domain.
func (s *session) monitor(t *testing.T, ref hypervisor.Ref, command string, arguments map[string]any, result any) {
	t.Helper()
	line, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.client.QEMUDomainMonitorCommand(s.domain(t, ref), string(line), 0)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	var reply struct {
		Return json.RawMessage `json:"return"`
		Error  *qmp.Error      `json:"error"`
	}
	if err := json.Unmarshal([]byte(answer), &reply); err != nil {
		t.Fatal(err)
	}
	if reply.Error != nil {
		t.Fatalf("%s: %v", command, reply.Error.Desc)
	}
	if result != nil {
		if err := json.Unmarshal(reply.Return, result); err != nil {
			t.Fatal(err)
		}
	}
}

var backingName = regexp.MustCompile(`nbd\+unix://[^\x00]+`)

// backing reads what the headers of a replica's images name below them.
func (s *session) backing(t *testing.T, ref hypervisor.Ref) map[string]string {
	t.Helper()
	text, err := s.client.DomainGetXMLDesc(s.domain(t, ref), rpc.DomainXMLInactive)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Disks []struct {
			Source struct {
				File string `xml:"file,attr"`
			} `xml:"source"`
			Target struct {
				Device string `xml:"dev,attr"`
			} `xml:"target"`
		} `xml:"devices>disk"`
	}
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	uris := map[string]string{}
	for _, disk := range d.Disks {
		file, err := os.Open(disk.Source.File)
		if err != nil {
			t.Fatal(err)
		}
		header := make([]byte, 4096)
		file.Read(header)
		file.Close()
		uris[disk.Target.Device] = string(backingName.Find(header))
	}
	return uris
}

type idleMachine struct {
	*kvmtest.Idle
	s *session
}

// GrowDisk makes a disk larger while the machine runs.
func (m *idleMachine) GrowDisk(t *testing.T, key string) {
	t.Helper()
	if err := m.s.client.DomainBlockResize(m.s.domain(t, m.Ref()), key, uint64(m.Grow(key)), rpc.DomainBlockResizeBytes); err != nil {
		t.Fatal(err)
	}
}

// AddDisk plugs a disk in while the machine runs.
func (m *idleMachine) AddDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(m.s.folder, "added.raw")
	kvmtest.Image(t, path, "raw", m.Add("vdc"))
	text := fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vdc' bus='virtio'/></disk>`, path)
	if err := m.s.client.DomainAttachDeviceFlags(m.s.domain(t, m.Ref()), text, uint32(rpc.DomainDeviceModifyLive|rpc.DomainDeviceModifyConfig)); err != nil {
		t.Fatal(err)
	}
	return "vdc"
}

// TestADaemonThatRestartsIsFoundAgain ends libvirtd under an open host.
func TestADaemonThatRestartsIsFoundAgain(t *testing.T) {
	s := newSession(t)
	m := s.source(t, "web01")
	h := s.host(t)
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Start(ctx, m.Ref(), hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	s.stop(t)
	if _, err := h.Discover(ctx); err == nil {
		t.Error("machines were discovered without a daemon")
	}
	s.start(t)
	uri, err := url.Parse(s.uri())
	if err != nil {
		t.Fatal(err)
	}
	if s.client, err = rpc.ConnectToURI(uri); err != nil {
		t.Fatal(err)
	}
	found, err := h.Machine(ctx, m.Ref())
	if err != nil || found.Power != hypervisor.Running {
		t.Errorf("after the daemon came back: %+v, %v", found, err)
	}
}
