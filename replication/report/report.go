package report

import (
	"time"

	"riparo/replication"
)

// Report is the state of replication at one moment.
type Report struct {
	Time     time.Time
	Machines map[replication.MachineID]Machine
	// SentPerSecond is the sum over machines, bytes.
	SentPerSecond float64
	// Throughput is its history, oldest first, one sample every SampleEvery.
	Throughput []float64
}

// SampleEvery is the time between two samples of a history; histories hold at
// most HistorySamples: one hour.
const (
	SampleEvery    = 10 * time.Second
	HistorySamples = 360
)

// Machine is what replication knows of a machine right now.
type Machine struct {
	Activity string // "idle", "reading changes of vda", "waiting to try again"
	// PointTime is the instant of the newest durable point; RPO is Report.Time less
	// that. Zero means unknown: show "unknown", never 0.
	PointTime time.Time
	// RPO history in seconds, oldest first, one sample every SampleEvery; a
	// negative sample is unknown. Reports share it: see Append.
	RPO           []float64
	Done, Total   int64 // of the transfer under way, bytes
	SentPerSecond float64
	LastCycle     time.Duration
	LastBytes     int64 // sent by the last cycle
	NextCycle     time.Time
}

// Append gives a history with one more sample, without its oldest when it was full. The
// history that it was is left as it is, for those who look at it: a history is made anew
// every SampleEvery, and looked at far more often.
func Append(history []float64, sample float64) []float64 {
	if len(history) >= HistorySamples {
		history = history[len(history)-HistorySamples+1:]
	}
	return append(append(make([]float64, 0, len(history)+1), history...), sample)
}
