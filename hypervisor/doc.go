// Package hypervisor says what Riparo asks of a place where machines run.
//
// [Provider] is the part that every place has: discover, start, stop, create,
// remove. What some have and others lack is a small capability interface that a
// Provider may implement as well: [Watcher], [ChangeReader], [DiskOpener],
// [StoppedReader], [OverlayBooter], [ConsoleReader], [Fencer], [Settler]. Ask for one with a
// type assertion, in one place (appliance/discovery), never in passing.
//
// A machine is named by [Ref], the provider's own stable identifier, and its
// disks by a key that stays the same while the machine lives ("vda", a device
// uuid). Providers keep no memory of Riparo's state: what was captured last is
// told by the vault and handed in with each call, and what a crash left behind is
// found by the names that Riparo gave it and cleared up by the next call. Every
// call may be repeated.
//
// Provider implementations are held to this by the suite in
// hypervisor/providertest.
package hypervisor
