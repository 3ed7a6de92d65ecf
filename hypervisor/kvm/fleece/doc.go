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
//  1. Each disk gets two qcow2 scratch files, one above the other and both above the
//     disk: "late", and on it "window", whose space ([windowBytes]) is allocated
//     beforehand.
//  2. One transaction for all disks: the bitmap since the last point is disabled,
//     the bitmap of the new point is added, and a sync=none backup into "window"
//     starts. This is the instant. It takes 2 to 5 ms.
//  3. Each disk gets a filter above the job's, with "late" as its target. Then the
//     jobs are canceled. The time between 2 and 3, the window, is some 10 ms (through
//     libvirt 100 ms), and what the guest overwrites in it goes where space is
//     reserved already.
//  4. "window" is served read-only over NBD, with the disabled bitmap. What was
//     overwritten in the window is in "window", what was overwritten later in "late",
//     and everything else comes from the disk itself.
//  5. Each read is made good where the guest overtook it, and counts only after a
//     witness confirmed it: a snapshot-access node of
//     the filter, which refuses reads from the moment when the filter could not keep
//     something. See [witness].
//
// # What QEMU does to those who do it differently
//
// All of this was seen with QEMU 7.2 and shapes the code:
//
//   - Canceling a job closes the node of its filter. If another filter sits directly
//     on it, that one's own bitmaps are on this node, and closing a node with bitmaps
//     is an assertion that ends QEMU (block.c, bdrv_close). So a throttle node without
//     limits stands between them.
//   - QEMU puts reads of a scratch file and copies into it in order only if the disk
//     that is copied is the very node below the scratch file. With nodes between, as
//     here, a guest can overtake a read: QEMU finds nothing in the scratch files, the
//     guest's write is copied and done, and then QEMU reads the disk. What NBD sends as
//     a hole instead of data has the same weakness in any arrangement. So a read is
//     followed by the question what the scratch files hold by now, and that is read
//     again, see [CapturedDisk.ReadAt].
//   - The block status of a snapshot-access node tells of the disk as it is now. Data
//     that was zeroed after the instant would be taken for zero.
//   - Two requests at once for the same place of such a node are an assertion (mended
//     in 9.1). The witness asks for one sector, one question at a time.
//   - Block status of overlays is asked level by level, without keeping the guest from
//     writing in between. A zero region counts only if it is certain; see regions.
//   - A node that is added above a disk with an iothread ends QEMU before 9.0. Such
//     machines are refused, see [ErrIOThread].
//   - Between the end of a block-stream job and its dismissal the question for all nodes
//     ends QEMU; see [Nodes].
//   - QEMU that is told to quit while it formats an image ends in an assertion. So the
//     scratch files are formatted here ([EmptyImage]).
//
// # Bitmaps
//
// The instant of a recovery point is remembered by a dirty bitmap named
// "riparo-" + PointID + "@" + the disk's key, persistent where the format allows (qcow2):
// an image that becomes another disk brings its bitmaps along.
// While a capture is open there are two: that of the last point, disabled, which
// tells what to read, and that of the new point. Commit drops the older, Rollback
// merges the newer into it and lets it record again; both in one transaction.
// [Begin] first brings into this order whatever a crash left behind; see planFor
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
