// Package lab is an embedded place where machines run: real bytes on real files,
// a running workload and an independent record of what it wrote, with no
// hypervisor at hand. It shows and tests everything above it, and is labeled
// Emulated wherever it appears.
//
// # What is real and what is not
//
// A disk of a lab machine is a plain sparse file, and its bytes come from nowhere
// else. There is no processor: the "guest" is a workload that reads and writes
// those bytes as a machine would. When it boots it reads its own disks, through
// an NBD connection if that is where they are, and says on its console what it
// found. A disk that shows something else than the machine's own past does not
// serve.
//
// # The record
//
// Next to the disks, and out of sight of anything that replicates them, each
// workload keeps a [Record]: what was written when, in which order, on which
// branch of its life. [Record.Judge] reads disks that somebody recovered and says
// which instant of which branch they show, and whether every byte of that instant
// is there. Order across disks counts: a recovered machine must show all writes
// up to one moment and none after it.
//
// A machine that boots begins a new branch at the instant its disks show. So a
// failover to an older point, a test beside the running original, reverse
// replication and failback are all judged exactly.
//
// # Crashes
//
// The definition of a machine, its disks, the memory of changed blocks and the
// record are written through as things happen, the record before the data. When
// the process is killed and a [World] is opened again on the same folder, its
// machines are as they were; those that ran go on, as if they had been paused.
// Nothing is synced to the medium: after a power cut of the host the lab is to be
// made anew.
package lab
