package protection

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/processserver"
	"riparo/store"
)

// Outcome is what a cycle did.
type Outcome struct {
	Point   replication.RecoveryPoint
	Instant hypervisor.Instant
	Disks   []DiskOutcome
	Took    time.Duration
	// News are things a person may want to know: a disk adopted, tracking lost.
	News []store.Event
}

// DiskOutcome is what a cycle did for one disk.
type DiskOutcome struct {
	Key    string
	Mode   hypervisor.CaptureMode
	Reason string
	// Compared is what was read of the source to compare it with the vault, bytes.
	Compared int64
	processserver.Result
}

// SentBytes is what the cycle handed to the sink.
func (o Outcome) SentBytes() (n int64) {
	for _, d := range o.Disks {
		n += d.Sent
	}
	return n
}

// Facts tell the outcome as evidence.
func (o Outcome) Facts() []store.Fact {
	facts := []store.Fact{{Name: "recovery point", Value: string(o.Point.ID)}, {Name: "consistency", Value: string(o.Point.Consistency)}}
	for _, d := range o.Disks {
		how := string(d.Mode)
		if d.Reason != "" {
			how += " (" + d.Reason + ")"
		}
		facts = append(facts, store.Fact{Name: d.Key, Value: fmt.Sprintf("%s: compared %d, read %d, changed %d, sent %d bytes", how, d.Compared, d.Read, d.Changed, d.Sent)})
	}
	facts = append(facts, store.Fact{Name: "sent bytes", Value: fmt.Sprint(o.SentBytes())}, store.Fact{Name: "took", Value: o.Took.Round(time.Millisecond).String()})
	for _, name := range slices.Sorted(maps.Keys(o.Instant.Evidence)) {
		facts = append(facts, store.Fact{Name: name, Value: o.Instant.Evidence[name]})
	}
	for _, warning := range o.Instant.Warnings {
		facts = append(facts, store.Fact{Name: "warning", Value: warning})
	}
	return facts
}

// TakePoint takes one recovery point of a machine that the caller holds, and
// gives what it showed as evidence.
func (p *Protector) TakePoint(ctx context.Context, id replication.MachineID, progress func(done, total int64)) (replication.RecoveryPoint, []store.Fact, error) {
	out, err := p.Take(ctx, id, CycleOptions{Want: replication.CrashConsistent, Progress: func(_ string, done, total int64) { progress(done, total) }})
	if err != nil {
		return replication.RecoveryPoint{}, nil, err
	}
	return out.Point, out.Facts(), nil
}
