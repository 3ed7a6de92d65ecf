// Package protection keeps machines protected: it takes a recovery point of each
// by its policy, cycle after cycle, and does the jobs that begin, mend and end
// protection.
//
// # A cycle
//
//	prepare the disks at the sink   what is durable, under which epoch
//	freeze all disks at one instant the provider's BeginPoint, since what the sink holds
//	carry disk after disk           delta; the whole disk at first; a comparison when in doubt
//	mark                            the point exists when every disk holds its mark
//	commit                          the provider counts changes from this instant on
//
// A crash anywhere is harmless. The sink's last mark, not a record of ours, says
// from where changes are needed; the provider puts its memory in order by it.
//
// # Who works on a machine
//
// Cycles and jobs exclude each other per machine ([Protector.Hold]): a job that
// takes hold cancels a cycle under way, which rolls back. So a failover never
// waits for a dead source.
package protection
