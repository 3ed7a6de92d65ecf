// Package kvm runs, replicates and fails over machines under QEMU, without a
// management daemon. Package kvm/libvirt is the same for machines that libvirt
// manages; what both do to capture disks is in kvm/fleece.
//
// # A site is a folder
//
//	SITE/NAME.json           the definition of a machine, see [Definition]; people
//	                         and programs may write it while the machine is off
//	SITE/disks/NAME/         disks that Create made; others lie wherever their
//	                         definition says
//	SITE/run/NAME/           run-time files of a machine, mode 0700:
//	    control.qmp          QMP socket for operations
//	    status.qmp           QMP socket for looking at the machine
//	    events.qmp           QMP socket for watching it
//	    agent.sock           channel to the guest agent
//	    nbd.sock             where an open capture is read
//	    disk.sock            where a disk of the stopped machine is open
//	    storage.qmp          QMP socket of the QEMU that holds a stopped machine's
//	                         disks open, and storage.pid its process
//	    pid                  the process, locked by it while it lives
//	    serial.log           what the guest printed since its start
//	    state.json           how the last run began and ended
//	    KEY.bitmaps          bitmaps of a raw disk while no QEMU has it open
//	    frozen               there while the guest's file systems may be frozen
//	    lock, disks.lock     held (flock) by whoever works with the machine, and
//	                         with its disks while it is off
//	    scratch/             old content while a capture is read
//	SITE/run/accelerator.json  whether this host accelerates machines
//
// The path of a unix socket has at most 107 bytes. Where those in SITE/run/NAME would
// be longer, the machine's sockets lie in a short folder instead:
// $XDG_RUNTIME_DIR/riparo-UID-HASH, or the same under /tmp, where HASH follows from the
// path of SITE/run/NAME. Only this user may enter it.
//
// # Machines are processes of their own
//
// QEMU detaches itself into a session of its own. That the program which started it
// ends, or is killed, does not touch it; it is found again by its sockets. Connections
// are held no longer than an operation takes, so that a program that hangs keeps
// nobody out for long, and one that died nobody at all.
//
// QEMU is told to stay when its guest powers down. It is then ended by whoever notices
// first (Stop, discovery, the next operation), which saves the dirty bitmaps of raw
// disks: they are in memory only, and the last delta of a planned failover needs them.
// A killed QEMU loses them; persistent bitmaps of qcow2 disks become "inconsistent".
// Both are found by the next capture, which then compares the disk with the vault.
//
// A QEMU whose sockets are gone is told by its pid file: the machine is unknown then, not
// stopped.
//
// # What a process that died left
//
// A capture that nobody will end costs the guest room, and one that was cut off in its
// first milliseconds may stop it: [Site.Settle] finds it by its scratch files, ends it, and
// lets a guest go on that QEMU stopped because of an I/O error. A freeze is found by its
// mark. Until then the next capture does the same.
//
// # Captures of stopped machines
//
// The disks of a machine that is off are opened by a QEMU without a machine. Bitmaps,
// captures, Flatten and OpenDisk work there as they do on a running one, and QEMU's
// image locks keep others away.
//
// # Not done
//
// Fence keeps Start from starting a machine; nothing keeps a person from running QEMU
// by hand on its disks. The serial log is not bounded. A capture cannot begin while
// Flatten runs. NBD below an overlay is without TLS.
package kvm
