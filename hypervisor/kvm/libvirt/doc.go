// Package libvirt protects and fails over machines that libvirt manages with QEMU.
// It speaks libvirt's own protocol; no libvirt library is needed here.
//
// # Addresses
//
//	qemu:///system                          this host's daemon
//	qemu:///session?socket=/path            a user's daemon
//	qemu+ssh://user@host/system?keyfile=…   through SSH
//	qemu+tls://host/system?pkipath=…        through TLS
//
// Over SSH the host key must be in known_hosts, and the account needs access to
// libvirt's socket there. Over TLS the daemon has to show the certificate that a person
// confirmed; where none was, one that the authorities in cacert.pem vouch for, or, when
// there is no such file, those of this machine. A TLS connection carries the control
// protocol only:
// discovery, power and fencing. To read a disk or to make one, Riparo must reach files
// and sockets of the host, and says so when it cannot.
//
// # How disks are captured
//
// As package fleece describes it, by giving QEMU commands through libvirt
// (virDomainQemuMonitorCommand). libvirt's own way, checkpoints and pull backups, is not
// taken, because it cannot keep two promises: while such a backup's scratch file is full
// the guest stands still, and raw disks have no checkpoints at all. What it costs:
//
//   - libvirt marks the domain as tainted (custom-monitor, custom-ga-command). Nothing
//     else changes: the domain's definition, disks and addresses stay as they are, and
//     after each capture QEMU's block graph is the one that libvirt knows.
//   - Where AppArmor or SELinux confine QEMU, it may not open files that libvirt did
//     not hand to it. The scratch folder then has to be allowed by hand; the error says
//     so. It has to be writable for the user that QEMU runs as.
//   - A disk-only snapshot or a block job by another program between two captures moves
//     the guest to another image. That has no bitmap, or one that libvirt made for it,
//     of the same name as the one below and empty: the next capture finds either out and
//     compares the disk with the vault.
//   - Other programs that ask libvirt for block information (virsh domblkinfo and
//     domstats, virt-manager's graphs) may kill a guest in the milliseconds in which its
//     disk has been made independent and libvirt has not dismissed the job: a bug of
//     QEMU's, see [fleece.Nodes]. Riparo itself does not ask then.
//   - Bitmaps of raw disks end with QEMU's process, which with libvirt is every power
//     off; those of qcow2 disks are kept.
//
// # What a process that died left
//
// While a capture is open its files are in the scratch folder, and while a guest may be
// frozen a file "frozen" is: by these [Host.Settle] knows which domains to look into, and
// asks nothing of the others. A guest that stands after an I/O error goes on by
// virDomainResume, and only if that is the reason libvirt knows.
//
// # Machines that are off
//
// Their disks are opened by a [kvm.Site] in the state folder, on the daemon's own host
// only. It holds QEMU's locks on the images, so that a start meanwhile fails.
//
// # Marks
//
// What Riparo remembers of a domain (its owner, a fence) is an element in the domain's
// metadata, namespace [Namespace]. A fence also switches autostart off. Start refuses a
// fenced domain; "virsh start" by hand does not: libvirt has no lock for that, and to
// hide the definition would take more from its administrator than it protects.
package libvirt
