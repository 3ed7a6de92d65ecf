// Package guest builds a small real machine for tests: Debian's cloud kernel and a
// memory disk with busybox, e2fsprogs and the QEMU guest agent. It boots in a few
// seconds, also without hardware virtualization, keeps ext4 on its disks, counts on
// them, and says on its serial console what it does.
//
// The kernel is fetched with apt-get download and kept, together with the built
// memory disk, in a cache folder: RIPARO_GUEST_CACHE, or riparo-guest in the user's
// cache folder. [Build] needs a Debian machine with the packages busybox-static,
// e2fsprogs and qemu-guest-agent.
//
// What the guest does is chosen on the kernel command line ([Append]). A disk is
// formatted only when it carries no ext4 yet, so a replica can boot with the very
// command line of its source and continues the count.
//
// The console is the witness: "C 17" is printed after count 17 was synced on all
// disks, so the last such line before an instant and the first after it bracket
// what a recovery point of that instant must hold. [Findings] reads what mode=verify
// printed about a disk.
package guest
