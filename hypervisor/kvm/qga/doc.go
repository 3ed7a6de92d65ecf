// Package qga speaks to the QEMU guest agent inside a machine: freezing and
// thawing its file systems, and asking it to shut down.
//
// The agent may be absent, still booting, hung, or halfway through the reply to a
// client that was killed. Every conversation therefore begins with
// guest-sync-delimited, which throws away what was left in the channel, and every
// step is bounded by its ctx. A virtio channel accepts bytes also when nobody
// reads them inside: silence is the only sign of an absent agent.
package qga
