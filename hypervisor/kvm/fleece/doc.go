// Package fleece captures the disks of a running QEMU machine at one instant and
// reads them while the machine goes on writing ("image fleecing" in QEMU's words).
// It needs only a monitor to give QEMU commands, so it serves machines that Riparo
// started itself and machines of libvirt alike. QEMU 7.1 or newer is needed.
//
// # What is asked for
//
// All disks at exactly one instant; dirty bitmaps that count from exactly this
// instant on; a guest that is never paused, not even when the place where old
// content is kept runs full. No single QEMU command of these versions gives all
// three. A backup job with sync=none starts for several disks in one transaction
// together with the bitmaps, but when its scratch file is full it fails the guest's
// write, and QEMU stops the guest. A copy-before-write filter with
// on-cbw-error=break-snapshot lets the guest go on and breaks the capture instead,
// but filters cannot be part of a transaction: each disk would have its own instant.
//
// # How it is done
//
// The job is used for the instant and the filter for the rest:
//
//  1. Two scratch files per disk are made. "window" is a qcow2 file whose space
//     ([windowBytes]) is allocated beforehand; "late" is a sparse raw file.
//  2. One transaction for all disks: the bitmap since the last point is disabled,
//     the bitmap of the new point is added, and a sync=none backup into "window"
//     starts. This is the instant.
//  3. Each disk gets a filter above the job's, with "late" as its target. Then the
//     jobs are canceled. The window between 2 and 3 lasts some 10 ms, and what the
//     guest overwrites in it goes where space is reserved already.
//  4. "window" becomes an overlay on a snapshot-access node of the filter: what was
//     overwritten in the window comes from "window", everything else from the
//     filter, which has it from "late" or, unchanged, from the disk itself. This
//     overlay is served read-only over NBD, with the disabled bitmap.
//
// Between the filter and the job stands a raw node that passes everything through.
// It looks idle and is needed: QEMU keeps the filter's own bitmaps on the node below
// it, and canceling a job closes the job's node; closing a node with bitmaps is an
// assertion that ends QEMU (block.c, bdrv_close, seen with 7.2).
//
// QEMU before 9.0 dies when a node is added above a disk that has an iothread. Such
// machines are refused, see [ErrIOThread].
//
// # Bitmaps
//
// The instant of a recovery point is remembered by a dirty bitmap named
// "riparo-" + PointID on each disk, persistent where the format allows (qcow2).
// While a capture is open there are two: that of the last point, disabled, which
// tells what to read, and that of the new point. Commit drops the older, Rollback
// merges the newer into it and lets it record again; both in one transaction.
// [Begin] first brings into this order whatever a crash left behind; see [planFor]
// for the rules. Point names sort by age, which tells leftovers that are newer than
// the last good point from those that are older.
//
// # Application consistency
//
// With a guest agent, [Begin] freezes the file systems, takes the instant, and thaws
// at once: the freeze does not cover the hand-over of step 3. A watchdog thaws when
// the limit is reached first. What fails turns the point into a crash-consistent one
// with a warning.
package fleece
