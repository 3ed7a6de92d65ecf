// Package sim is the whole walk of a block in one seeded world, to be run ten thousand
// times: two hosts with a machine that writes, a link that fails in every way a link
// can, and a master target whose vault lies on a disk that fails in every way a disk
// can. Time is virtual and one random generator decides everything; the same seed gives
// the same trace. It is made of tests only.
//
// # What is real
//
// The vault (all of it, on the simulated disk of vfs), the process server's Carry with
// its reading, batching and zero detection, the comparison of resync, the retention
// rules, and the contract of [replication.Sink] between them. These use goroutines, and
// their scheduling follows no seed. What makes the world deterministic all the same:
// after each event the world waits until every goroutine is blocked (testing/synctest),
// and only then looks at what they asked for, in a fixed order. Pipelines of bounded
// channels come to rest in the same state whatever the order in which their goroutines
// ran, as long as nothing is cancelled; what a cancelled one still asks for is ignored.
//
// The vault runs without its background goroutine, whose disk operations would lie
// anywhere between those of the writers: the world calls Maintain at moments of its own.
//
// # What is not
//
// The transport between process server and master target is the world's own: frames
// with a checksum, sent again until answered, bound to a connection and to the life of
// the target, as TLS and a new connection bind them. The host keeps its dirty bitmap as
// the platforms do: cleared at an instant, given back when that transfer fails, doubtful
// after a crash.
//
// # What is checked
//
//   - Every recovery point that the vault lists is, bit for bit, what both disks of the
//     machine were at one instant.
//   - Every point that was acknowledged is listed until it is dropped or rewound past;
//     what is gone never comes back; an owner that was deposed adds nothing.
//   - A flipped bit, a write that was lost though its fsync succeeded, or one that went
//     elsewhere, gives an error or nothing, never other bytes. Where reading gives an error
//     a verification finds damage. A point goes in silence only with the end of the log
//     that it lay in: then the next sender finds a point that it does not know, or data behind
//     the point that it has not sent, and compares the whole disk. What was dropped or
//     rewound may come back the same way.
//   - A planned failover loses nothing.
//   - When the faults end, the newest point is the disk of the machine within a bounded
//     time.
package sim
