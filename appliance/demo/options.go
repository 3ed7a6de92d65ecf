package demo

import (
	"fmt"
	"log/slog"
	"time"

	"riparo/store/logs"
)

// Options say how large the story is.
type Options struct {
	Data     string // folder; made if missing
	Listen   string // of the console
	Machines int
	DiskSize int64 // bytes of each disk; every machine has two
	Churn    int64 // bytes a second that each workload writes
	Seed     uint64
	Version  string
	Log      *slog.Logger
	Logs     *logs.Log // what the console shows; may be nil
	// Tell is given each sentence of the story as it happens.
	Tell func(format string, args ...any)

	// tamper lets a test change bytes behind the appliance's back, once all
	// machines run as replicas.
	tamper func(*story) error
}

// Defaults: a minute on two cores.
const (
	DefaultMachines = 3
	DefaultDiskSize = 1 << 30
	DefaultChurn    = 2 << 20
)

const (
	// contentShare of each disk has content at first: one part in so many.
	contentShare = 8
	// points that each machine has before it fails over.
	points = 4
	// patience bounds every wait of the story.
	patience = 3 * time.Minute
)

// Check tells which option is out of its range. Without Tell, nothing is told.
func (o *Options) Check() error {
	if o.Machines < 1 || o.Machines > 64 {
		return fmt.Errorf("--machines %d: want 1 to 64", o.Machines)
	}
	if o.DiskSize < 16<<20 || o.DiskSize%(64<<10) != 0 {
		return fmt.Errorf("--disk-size %d: want a multiple of 64 KiB, at least 16 MiB", o.DiskSize)
	}
	if o.Churn < 0 {
		return fmt.Errorf("--churn %d: not below 0", o.Churn)
	}
	if o.Tell == nil {
		o.Tell = func(string, ...any) {}
	}
	return nil
}

// Result is what the story showed. Its JSON is a contract.
type Result struct {
	Verified bool      `json:"verified"`
	Why      []string  `json:"why,omitempty"` // what was not as it should be
	Machines []Machine `json:"machines"`
	Seconds  float64   `json:"seconds"`
}

// Machine is what the story showed of one machine.
type Machine struct {
	Name            string  `json:"name"`
	Disks           int     `json:"disks"`
	LogicalBytes    int64   `json:"logical_bytes"`
	SentBytes       int64   `json:"sent_bytes"`
	ReverseBytes    int64   `json:"reverse_sent_bytes"`
	RecoveryPoints  int     `json:"recovery_points"`
	PointsJudged    int     `json:"points_judged"`
	RPOp50          float64 `json:"rpo_p50_seconds"`
	RPOp99          float64 `json:"rpo_p99_seconds"`
	TestSeconds     float64 `json:"test_failover_seconds"`
	FailoverSeconds float64 `json:"failover_seconds"`
	FailbackSeconds float64 `json:"failback_seconds"`
	Verified        bool    `json:"verified"`
}
