package libvirt

import "testing"

// FuzzDomain reads the XML of a domain that others defined and asks all that Riparo
// wants to know of it.
func FuzzDomain(f *testing.F) {
	f.Add(`<domain type='kvm' id='3'><name>web01</name><uuid>717c2a3a-28d1-5e1e-9f4b-0123456789ab</uuid>
<metadata><riparo:machine xmlns:riparo="urn:riparo:machine:1" owner="m-1/test" fenced="true"/></metadata>
<memory unit='KiB'>524288</memory><vcpu>2</vcpu><os><type arch='x86_64'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/x.qcow2'/>
<backingStore type='network'><format type='raw'/><source protocol='nbd' name='vda'><host transport='unix' socket='/y'/></source><backingStore/></backingStore>
<target dev='vda' bus='virtio'/><boot order='1'/></disk><disk device='cdrom'/>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
<serial type='file'><source path='/log'/><target port='0'/></serial>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices>
<seclabel type='dynamic' model='dac'><label>+64055:+64055</label></seclabel></domain>`)
	f.Add(`<domain><disk/><devices><disk><source/></disk><serial><log file="x"/></serial><interface/></devices></domain>`)
	f.Fuzz(func(t *testing.T, text string) {
		var d domain
		if decode(text, &d) != nil {
			return
		}
		d.owner()
		d.marked()
		d.consoleFile()
		d.agent()
		if _, there := d.disk("vda"); there && len(d.disks()) == 0 {
			t.Fatal("a disk of a domain without disks")
		}
		for _, k := range d.disks() {
			obstacle(k)
			k.Source.path()
			for c := k.Chain; c != nil; c = c.Below {
				if c.Source != nil {
					uriOf(c.Source)
				}
			}
		}
		for _, card := range d.Devices.Interfaces {
			networkOf(card)
		}
	})
}

func FuzzNetwork(f *testing.F) {
	f.Add(`<network><name>default</name><forward mode='nat'/><bridge name='virbr0' stp='on'/><ip address='192.0.2.1'/></network>`)
	f.Add(`<network><name>apart</name></network>`)
	f.Fuzz(func(t *testing.T, text string) {
		var n network
		if decode(text, &n) == nil && n.isolated() && (n.Forward != nil || len(n.IP) > 0) {
			t.Fatalf("%q is called isolated", text)
		}
	})
}

// FuzzAddress: what passes names a transport that can be dialed, and where.
func FuzzAddress(f *testing.F) {
	for _, address := range []string{"qemu:///system", "qemu+ssh://root@host:22/system?keyfile=/k", "qemu+tls://host/system", "qemu+unix:///session?socket=/x", "xen:///system", "qemu+tcp://h/system", "%zz"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		uri, err := parse(address)
		if err != nil {
			return
		}
		if how := transport(uri); how != "unix" && uri.Host == "" {
			t.Fatalf("%q passes: %s to no host", address, how)
		}
		socketPath(uri)
	})
}
