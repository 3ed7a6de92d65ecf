// Package logs keeps the log of the appliance and reads it.
//
// [Open] gives the logger: JSON lines in a folder, rotated by size and age, older
// files compressed, secrets taken out before they are written. A [Reader] reads such
// a folder, also while it is written to and also when no daemon runs.
//
// A reader works on gigabytes with little memory. For each 256 KiB of log it
// remembers where they begin, from when to when they reach, which levels they hold
// and, in a filter of 512 bytes, which machines, jobs and components: 2 GiB of log
// take some 5 MiB of index. What cannot match is not read. A query ends after a
// bounded amount of work and says how far it came, so that the next one goes on.
//
// A line has a [Position] that does not change when its file is renamed or
// compressed: the file is known by its first line.
//
// A line that cannot be understood (a crash tore it, something else wrote it) is
// shown as it is. It has the time of the line before it.
package logs
