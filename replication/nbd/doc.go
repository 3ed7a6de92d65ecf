// Package nbd speaks the Network Block Device protocol, as a client of the
// hypervisors whose disks are read, and as a server of recovery points to the
// machines that boot from them.
//
// [Client] reads an export as a [replication.Source]: in full with the zero
// regions that base:allocation tells of, or only what a dirty bitmap marks
// ([Client.Delta]). [Server] serves any Source to any NBD client: QEMU, libvirt,
// qemu-img, nbdcopy, the Linux kernel. [Overlay] makes a served disk writable
// while the Source below it stays as it is.
//
// # What is spoken
//
// Fixed newstyle negotiation with INFO, GO, LIST, EXPORT_NAME, ABORT and STARTTLS;
// structured replies; the metadata contexts base:allocation and
// qemu:dirty-bitmap:NAME on both sides; requests side by side, told apart by their
// cookies; several connections where the server allows it. Not spoken: oldstyle,
// extended headers (64-bit lengths), resize, and commands that are not advertised.
//
// # Trust
//
// Both ends take the other for hostile. Every length, offset, number and name is
// checked before it is used, memory and waiting are bounded by constants that
// stand next to what they bound, and a peer that breaks the protocol loses its
// connection. Without TLS anybody on the path can read and change what is sent:
// serve on a unix socket of mode 0600, or with RequireTLS.
package nbd
