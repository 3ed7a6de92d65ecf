// Package vfs is the seam between what Riparo stores and the disk that holds it.
//
// [FS] has the few file operations that a log needs, with the names and the
// promises of the real thing: a write is safe after Sync of its file, and a new
// name, a rename or a removal is safe after SyncDir of its folder. Nothing else
// is safe.
//
// It has two forms. [OS] is the operating system's files. [NewSim] is a disk made
// of memory that keeps those promises and not one more: see [Sim] for what it does
// to data that was not synced, and for the faults it can be told to have. The same
// seed and the same calls give the same disk.
package vfs
