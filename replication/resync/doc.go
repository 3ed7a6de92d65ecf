// Package resync is the way around lost or doubtful change tracking: it compares a
// frozen disk with the head that a sink holds, and yields only the regions that
// differ. Adopting a disk that was seeded offline and failing back are the same walk.
//
//	source ─ SHA-256 per 64 KiB ─▶ ┐
//	                               ├ differ? ─ again per 4 KiB ─▶ regions to send
//	sink   ─ SHA-256 per 64 KiB ─▶ ┘
//
// [Differences] wraps a source into one whose regions are those differences, so
// that the process server carries them like any delta and every older recovery
// point stays. What the source knows to be zero is not read, unless it lies close between
// data, or between data that comes from a disk; what differs is read once while it can be
// kept. Memory is bounded by [MaxMemory] whatever the size of the disk.
//
// A sink in the same process is handed the content instead and compares by itself, see
// [replication.Judge]: a vault does so by the keyed hashes that its map has of every
// block, and reads next to nothing.
//
// SHA-256, and not a faster sum, because the two ends may belong to different
// trust domains: whoever writes inside a guest must not be able to make two
// different blocks look equal.
package resync
