package kvm

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"riparo/hypervisor"
	"riparo/replication/nbd"
)

// fields is a JSON object for QEMU.
type fields = map[string]any

// Names inside QEMU. What captures add is named by package fleece.
func diskNode(key string) string    { return "disk-" + key }
func backingNode(key string) string { return "back-" + key }
func deviceName(key string) string  { return "dev-" + key }

// devicePath is where QEMU's object model keeps a disk's device. A virtio-blk-pci
// device passes the drive on to a device of its own.
func (d *Definition) devicePath(key string) string {
	path := "/machine/peripheral/" + deviceName(key)
	if d.DiskBus == "sata" {
		return path
	}
	return path + "/virtio-backend"
}

const (
	// reconnectDelay is how long the guest's reads wait for the NBD server below an
	// overlay to come back, in seconds, before the guest sees an error. An appliance
	// that is being updated or restored takes minutes.
	reconnectDelay = 1800
	// openTimeout is how long a starting QEMU waits for that server, in seconds.
	openTimeout = 20
)

// nodes are the block nodes of a disk, lowest first, for blockdev-add or -blockdev.
func (s *Site) nodes(disk DiskDefinition) ([]fields, error) {
	driver := "file"
	if info, err := os.Stat(s.diskPath(disk)); err == nil && info.Mode()&os.ModeDevice != 0 {
		driver = "host_device"
	}
	top := fields{
		"driver": disk.Format, "node-name": diskNode(disk.Key), "discard": "unmap",
		"file": fields{"driver": driver, "filename": s.diskPath(disk), "discard": "unmap"},
	}
	if disk.Format == "raw" {
		return []fields{top}, nil
	}
	if disk.Backing == "" {
		top["backing"] = nil
		return []fields{top}, nil
	}
	address, err := nbd.ParseURI(disk.Backing)
	if err != nil {
		return nil, err
	}
	if address.TLS {
		return nil, fmt.Errorf("NBD with TLS below an overlay is not supported: use a unix socket, or a network that is trusted")
	}
	server := fields{"type": "unix", "path": address.Address}
	if address.Network == "tcp" {
		host, port, err := net.SplitHostPort(address.Address)
		if err != nil {
			return nil, err
		}
		server = fields{"type": "inet", "host": host, "port": port}
	}
	top["backing"] = backingNode(disk.Key)
	return []fields{{
		"driver": "nbd", "node-name": backingNode(disk.Key), "read-only": true, "server": server,
		"export": address.Export, "reconnect-delay": reconnectDelay, "open-timeout": openTimeout,
	}, top}, nil
}

// arguments are the command line that runs the machine: detached, not yet executing,
// and staying when the guest powers down, so that its last state can be captured.
func (s *Site) arguments(d *Definition, accelerator string) ([]string, error) {
	machine := d.MachineType
	if machine == "" {
		machine = "q35"
	}
	cpu := d.CPUModel
	if cpu == "" {
		cpu = map[string]string{"kvm": "host", "tcg": "max"}[accelerator]
	}
	a := []string{
		"-name", "guest=" + escape(d.Name), "-machine", machine + ",accel=" + accelerator, "-cpu", cpu,
		"-m", strconv.Itoa(d.MemoryMiB), "-smp", strconv.Itoa(d.CPUs), "-uuid", s.uuid(d),
		"-no-user-config", "-nodefaults", "-display", "none", "-S", "-no-shutdown", "-daemonize",
		"-pidfile", s.runFile(d.Name, "pid"),
		"-chardev", "file,id=serial0,path=" + escape(s.runFile(d.Name, "serial.log")), "-serial", "chardev:serial0",
	}
	for _, name := range monitors {
		a = append(a, "-chardev", fmt.Sprintf("socket,id=%s,path=%s,server=on,wait=off", name, escape(s.socket(d.Name, name+".qmp"))),
			"-mon", "chardev="+name+",mode=control")
	}
	if d.Kernel != "" {
		a = append(a, "-kernel", d.Kernel, "-append", d.Append)
		if d.Initrd != "" {
			a = append(a, "-initrd", d.Initrd)
		}
	}
	if d.Firmware != "" {
		a = append(a, "-drive", "if=pflash,format=raw,readonly=on,file="+escape(d.Firmware))
		if d.FirmwareVars != "" {
			a = append(a, "-drive", "if=pflash,format=raw,file="+escape(d.FirmwareVars))
		}
	}
	boot := slices.IndexFunc(d.Disks, func(disk DiskDefinition) bool { return disk.Boot })
	for i, disk := range d.Disks {
		nodes, err := s.nodes(disk)
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", disk.Key, err)
		}
		for _, n := range nodes {
			a = append(a, "-blockdev", toJSON(n))
		}
		device := fields{"driver": "virtio-blk-pci", "id": deviceName(disk.Key), "drive": diskNode(disk.Key), "serial": d.serial(disk)}
		if d.DiskBus == "sata" {
			device["driver"], device["bus"] = "ide-hd", fmt.Sprintf("ide.%d", i)
		}
		if i == boot || boot < 0 && i == 0 {
			device["bootindex"] = 1
		}
		a = append(a, "-device", toJSON(device))
	}
	if d.GuestAgent {
		a = append(a, "-device", "virtio-serial-pci", "-chardev", "socket,id=agent0,path="+escape(s.socket(d.Name, "agent.sock"))+",server=on,wait=off",
			"-device", "virtserialport,chardev=agent0,name=org.qemu.guest_agent.0")
	}
	return append(a, networkArguments(d)...), nil
}

// networkArguments connect the machine's network cards. The isolated network is
// QEMU's own user network with everything refused: the guest reaches neither the
// host nor anything behind it, and nobody needs privileges to make one.
func networkArguments(d *Definition) []string {
	target, err := parseNetwork(d.Network)
	if err != nil || target.kind == "" {
		return nil
	}
	cards := d.NICs
	if len(cards) == 0 {
		cards = []hypervisor.NIC{{}}
	}
	var a []string
	for i, card := range cards {
		id := fmt.Sprintf("net%d", i)
		backend := map[string]string{
			"user": "user,id=" + id, "isolated": "user,id=" + id + ",restrict=on", "bridge": "bridge,id=" + id + ",br=" + target.bridge,
		}[target.kind]
		// No boot ROM: it would try to boot over the network, and needs a file that
		// not every host has.
		device := fields{"driver": "virtio-net-pci", "netdev": id, "romfile": ""}
		if card.MAC != "" {
			device["mac"] = card.MAC
		}
		a = append(a, "-netdev", backend, "-device", toJSON(device))
	}
	return a
}

// escape doubles the commas of a value in QEMU's comma-separated options.
func escape(value string) string {
	var b []byte
	for i := range len(value) {
		if value[i] == ',' {
			b = append(b, ',')
		}
		b = append(b, value[i])
	}
	return string(b)
}

func toJSON(f fields) string {
	text, _ := json.Marshal(f) // a map of strings, numbers and such maps always encodes
	return string(text)
}

// uuid is the machine's own: that of its origin, which programs in the guest may be
// licensed to, or one that follows from the site and the name.
func (s *Site) uuid(d *Definition) string {
	if uuid := d.Hardware["uuid"]; uuid != "" {
		return uuid
	}
	sum := sha256.Sum256([]byte(s.folder + "\x00" + d.Name))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80 // a name-based UUID (RFC 9562, version 5)
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
