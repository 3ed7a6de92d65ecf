// Package lifecycle says what may happen to a protected machine: its states, the
// events that change them, and the failovers that a scenario has. It is pure
// data and pure functions: [Next] is the only way a machine changes its state,
// [NextDrill] the only way its test failover does, and [Allows] decides which
// buttons exist.
//
// Three things are kept apart: the State of replication and ownership, the Drill
// (a test failover, which leaves replication alone and may run beside it), and
// health, which is computed elsewhere from findings.
package lifecycle
