package libvirt

import (
	"encoding/xml"
	"strings"
)

// Namespace of what Riparo keeps in a domain's metadata.
const Namespace = "urn:riparo:machine:1"

// The parts of libvirt's XML that Riparo reads or writes (libvirt's formatdomain and
// formatnetwork documents). Reading ignores everything else; a domain that Riparo did
// not make is never written back.

type domain struct {
	XMLName  xml.Name `xml:"domain"`
	Type     string   `xml:"type,attr"`
	ID       int      `xml:"id,attr,omitempty"`
	Name     string   `xml:"name"`
	UUID     string   `xml:"uuid,omitempty"`
	Metadata *struct {
		Mark *mark `xml:"urn:riparo:machine:1 machine"`
	} `xml:"metadata"`
	Memory   memory   `xml:"memory"`
	VCPU     int      `xml:"vcpu"`
	OS       system   `xml:"os"`
	Features *raw     `xml:"features"`
	CPU      *element `xml:"cpu"`
	Clock    *element `xml:"clock"`
	Poweroff string   `xml:"on_poweroff,omitempty"`
	Devices  devices  `xml:"devices"`
	Security []struct {
		Model string `xml:"model,attr"`
		Label string `xml:"label"`
	} `xml:"seclabel"`
}

// owner is the user and group that the domain's QEMU runs as, as "64055:64055"; empty
// if libvirt does not switch users.
func (d *domain) owner() string {
	for _, s := range d.Security {
		if s.Model == "dac" {
			return strings.ReplaceAll(s.Label, "+", "")
		}
	}
	return ""
}

// mark is what Riparo remembers of a domain.
type mark struct {
	XMLName xml.Name `xml:"urn:riparo:machine:1 machine"`
	Owner   string   `xml:"owner,attr,omitempty"`
	Network string   `xml:"network,attr,omitempty"` // made for this machine
	Fenced  bool     `xml:"fenced,attr,omitempty"`
	Reason  string   `xml:"reason,attr,omitempty"`
	// Tracked is the point whose bitmaps were added before the first instruction.
	Tracked string `xml:"tracked,attr,omitempty"`
	// Hardware is what the machine's origin said of it and libvirt has no place for.
	Hardware []entry `xml:"hardware"`
}

type entry struct {
	Key   string `xml:"key,attr"`
	Value string `xml:",chardata"`
}

type memory struct {
	Unit  string `xml:"unit,attr,omitempty"`
	Value int64  `xml:",chardata"`
}

// mib is the amount in MiB. libvirt reports KiB whatever it was given.
func (m memory) mib() int {
	if m.Unit == "MiB" {
		return int(m.Value)
	}
	return int(m.Value >> 10)
}

type system struct {
	Firmware string  `xml:"firmware,attr,omitempty"`
	Type     osType  `xml:"type"`
	Loader   *loader `xml:"loader"`
	NVRAM    *nvram  `xml:"nvram"`
	Kernel   string  `xml:"kernel,omitempty"`
	Initrd   string  `xml:"initrd,omitempty"`
	Cmdline  string  `xml:"cmdline,omitempty"`
}

type osType struct {
	Arch    string `xml:"arch,attr,omitempty"`
	Machine string `xml:"machine,attr,omitempty"`
	Value   string `xml:",chardata"`
}

type loader struct {
	ReadOnly string `xml:"readonly,attr,omitempty"`
	Type     string `xml:"type,attr,omitempty"`
	Path     string `xml:",chardata"`
}

type nvram struct {
	Template string `xml:"template,attr,omitempty"`
	Path     string `xml:",chardata"`
}

// raw is an element whose content is passed on as it is.
type raw struct {
	Inner string `xml:",innerxml"`
}

// element is raw with its attributes.
type element struct {
	Attributes []xml.Attr `xml:",any,attr"`
	Inner      string     `xml:",innerxml"`
}

type devices struct {
	Disks       []disk        `xml:"disk"`
	Controllers []controller  `xml:"controller"`
	Interfaces  []netCard     `xml:"interface"`
	Serials     []serialPort  `xml:"serial"`
	Channels    []channel     `xml:"channel"`
	MemBalloon  *modelElement `xml:"memballoon"`
}

type modelElement struct {
	Model string `xml:"model,attr,omitempty"`
}

type disk struct {
	Type   string  `xml:"type,attr"`
	Device string  `xml:"device,attr,omitempty"`
	Driver *driver `xml:"driver"`
	Source *source `xml:"source"`
	// Chain is what lies below the image; empty but present means nothing does.
	Chain     *chain    `xml:"backingStore"`
	Target    target    `xml:"target"`
	Boot      *boot     `xml:"boot"`
	Serial    string    `xml:"serial,omitempty"`
	ReadOnly  *struct{} `xml:"readonly"`
	Shareable *struct{} `xml:"shareable"`
	Alias     *alias    `xml:"alias"`
}

type driver struct {
	Name     string `xml:"name,attr,omitempty"`
	Type     string `xml:"type,attr,omitempty"`
	Discard  string `xml:"discard,attr,omitempty"`
	IOThread string `xml:"iothread,attr,omitempty"`
}

type source struct {
	File      string     `xml:"file,attr,omitempty"`
	Device    string     `xml:"dev,attr,omitempty"`
	Protocol  string     `xml:"protocol,attr,omitempty"`
	Name      string     `xml:"name,attr,omitempty"`
	Host      *nbdHost   `xml:"host"`
	Reconnect *reconnect `xml:"reconnect"`
	Network   string     `xml:"network,attr,omitempty"` // of an interface
	Bridge    string     `xml:"bridge,attr,omitempty"`
	Path      string     `xml:"path,attr,omitempty"` // of a serial port
}

// path is where a disk's image lies.
func (s *source) path() string {
	if s == nil {
		return ""
	}
	if s.File != "" {
		return s.File
	}
	return s.Device
}

type nbdHost struct {
	Name      string `xml:"name,attr,omitempty"`
	Port      string `xml:"port,attr,omitempty"`
	Transport string `xml:"transport,attr,omitempty"`
	Socket    string `xml:"socket,attr,omitempty"`
}

type reconnect struct {
	Delay int `xml:"delay,attr"`
}

type chain struct {
	Type   string  `xml:"type,attr,omitempty"`
	Format *format `xml:"format"`
	Source *source `xml:"source"`
	Below  *chain  `xml:"backingStore"`
}

type format struct {
	Type string `xml:"type,attr"`
}

type target struct {
	Device string `xml:"dev,attr,omitempty"`
	Bus    string `xml:"bus,attr,omitempty"`
	Type   string `xml:"type,attr,omitempty"` // of a channel
	Name   string `xml:"name,attr,omitempty"` // of a channel
	Port   *int   `xml:"port,attr"`           // of a serial port
}

type boot struct {
	Order int `xml:"order,attr"`
}

type alias struct {
	Name string `xml:"name,attr"`
}

type controller struct {
	Type   string  `xml:"type,attr"`
	Index  int     `xml:"index,attr"`
	Model  string  `xml:"model,attr,omitempty"`
	Driver *driver `xml:"driver"`
}

type netCard struct {
	Type   string        `xml:"type,attr"`
	MAC    *address      `xml:"mac"`
	Source *source       `xml:"source"`
	Model  *cardModel    `xml:"model"`
	Link   *link         `xml:"link"`
	ROM    *romSwitchOff `xml:"rom"`
}

type address struct {
	Address string `xml:"address,attr"`
}

type cardModel struct {
	Type string `xml:"type,attr"`
}

type link struct {
	State string `xml:"state,attr"`
}

// romSwitchOff keeps a card from booting over the network.
type romSwitchOff struct {
	Enabled string `xml:"enabled,attr"`
}

type serialPort struct {
	Type   string  `xml:"type,attr"`
	Source *source `xml:"source"`
	Target *target `xml:"target"`
	Log    *logTo  `xml:"log"`
}

type logTo struct {
	File string `xml:"file,attr"`
}

type channel struct {
	Type   string `xml:"type,attr"`
	Target target `xml:"target"`
}

// agent reports whether the domain has a channel for the guest agent.
func (d *domain) agent() bool {
	for _, c := range d.Devices.Channels {
		if c.Target.Name == agentChannel {
			return true
		}
	}
	return false
}

const agentChannel = "org.qemu.guest_agent.0"

// marked is Riparo's mark; empty if there is none.
func (d *domain) marked() mark {
	if d.Metadata == nil || d.Metadata.Mark == nil {
		return mark{}
	}
	return *d.Metadata.Mark
}

// consoleFile is where the first serial port is written to; empty if to no file.
func (d *domain) consoleFile() string {
	for _, s := range d.Devices.Serials {
		switch {
		case s.Type == "file" && s.Source != nil:
			return s.Source.Path
		case s.Log != nil:
			return s.Log.File
		}
	}
	return ""
}

// disks are the disks with a guest's data: no CD-ROM or floppy drives.
func (d *domain) disks() []disk {
	var disks []disk
	for _, k := range d.Devices.Disks {
		if k.Device == "" || k.Device == "disk" {
			disks = append(disks, k)
		}
	}
	return disks
}

func (d *domain) disk(key string) (disk, bool) {
	for _, k := range d.disks() {
		if k.Target.Device == key {
			return k, true
		}
	}
	return disk{}, false
}

// network is a libvirt network.
type network struct {
	XMLName xml.Name   `xml:"network"`
	Name    string     `xml:"name"`
	Forward *raw       `xml:"forward"`
	Bridge  *netBridge `xml:"bridge"`
	IP      []raw      `xml:"ip"`
}

type netBridge struct {
	Name string `xml:"name,attr,omitempty"`
	STP  string `xml:"stp,attr,omitempty"`
}

// isolated reports whether nothing can be reached from it, not even this host: that
// would need an address on it.
func (n *network) isolated() bool { return n.Forward == nil && len(n.IP) == 0 }

func decode(text string, into any) error { return xml.NewDecoder(strings.NewReader(text)).Decode(into) }

func encode(value any) (string, error) {
	text, err := xml.MarshalIndent(value, "", "  ")
	return string(text), err
}
