// Package mastertarget is the far end of the walk: it stands in front of the
// vault, and it serves recovery points as NBD disks to the machines that run on
// them.
//
// # Published points
//
// A point is published under a name and served read-only on one private socket
// for as long as the name stands. A hypervisor puts an overlay on it, so a
// machine starts without a byte being copied. Whoever publishes keeps a durable
// record of it: after a restart the same names are published again on the same
// address, and a machine that was reading meanwhile only waited.
//
// A view keeps the point's data alive: it may be dropped, rewound or pruned in
// the vault while it is served.
package mastertarget
