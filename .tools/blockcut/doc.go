// Package blockcut cuts the power below a real file system, and looks at what the real
// program finds afterwards.
//
// A file system of one file, in user space, with a loop device on top is a block device
// of which every write and every flush is known. While riparo replicates into a vault
// on ext4 or xfs there, a [Trace] keeps them in order, with a note of each point when it
// was announced. From one trace any cut can be made: everything up to a moment, with any
// of the sectors missing that no flush covered. Each such image is mounted for real, the
// vault is verified, and every point that had been announced must give back its disk.
//
// The tests need root, /dev/fuse and loop devices, and say so where these are missing.
// They write to the loop device only that they attached themselves, and detach it.
package blockcut
