package lifecycle

import "fmt"

// Scenario is a pair of kinds of places between which machines are protected.
type Scenario string

const (
	VMwareToAzure       Scenario = "vmware-azure"
	PhysicalToAzure     Scenario = "physical-azure"
	HyperVToAzure       Scenario = "hyperv-azure"     // Hyper-V without VMM
	HyperVVMMToAzure    Scenario = "hyperv-vmm-azure" // Hyper-V in VMM clouds
	VMwareToSecondary   Scenario = "vmware-secondary"
	PhysicalToSecondary Scenario = "physical-secondary"
	VMMToSecondary      Scenario = "vmm-secondary" // Hyper-V in VMM clouds, between two sites
	VMMSAN              Scenario = "vmm-san"       // the same, replicated by storage arrays
	AzureToAzure        Scenario = "azure-azure"   // migration
	AWSToAzure          Scenario = "aws-azure"     // migration
	KVMToSecondary      Scenario = "kvm-kvm"
	Lab                 Scenario = "lab"
)

// Rules say what a scenario can do.
type Rules struct {
	Scenario Scenario
	Title    string // for people. Example: "VMware to Azure"
	// Forward and Reverse are the failovers that exist in each direction. The
	// planned failover of the reverse direction is the failback.
	Forward, Reverse Failovers
	// Migration ends with CompleteMigration: no reverse replication, no failback.
	Migration bool
	// AutoReverse: reverse replication starts by itself after the commit.
	AutoReverse bool
	// AutoCommit: a failover commits by itself, so the point cannot be changed.
	AutoCommit bool
	// ByArray: storage arrays replicate. There is nothing to pause or to
	// resynchronize from here.
	ByArray bool
	// SyncFirst: an unplanned failover may first try to shut the source down and
	// to send its latest data.
	SyncFirst bool
	// FailbackTo is the only kind of place a failback can go to, when that is not
	// the kind it came from.
	FailbackTo string
}

// Failovers are those that exist in one direction.
type Failovers struct{ Test, Planned, Unplanned bool }

var (
	noFailover    = Failovers{}
	allFailovers  = Failovers{Test: true, Planned: true, Unplanned: true}
	agentFailover = Failovers{Test: true, Unplanned: true}
	onlyFailback  = Failovers{Planned: true}
)

// matrix is the table of the field (Site Recovery, October 2016). Where it has no
// row we decide, and say so.
var matrix = []Rules{
	{Scenario: VMwareToAzure, Title: "VMware to Azure", Forward: agentFailover, Reverse: onlyFailback, AutoReverse: true, SyncFirst: true},
	{Scenario: PhysicalToAzure, Title: "Physical servers to Azure", Forward: agentFailover, Reverse: onlyFailback, AutoReverse: true, FailbackTo: "vmware"},
	{Scenario: HyperVToAzure, Title: "Hyper-V to Azure", Forward: allFailovers, Reverse: onlyFailback, AutoReverse: true, SyncFirst: true},
	{Scenario: HyperVVMMToAzure, Title: "Hyper-V with VMM to Azure", Forward: allFailovers, Reverse: onlyFailback, AutoReverse: true, SyncFirst: true},
	// The table has no row for the secondary site of VMware and physical servers:
	// the same agents capture them as on the way to Azure, so the row is the same.
	{Scenario: VMwareToSecondary, Title: "VMware to a secondary site", Forward: agentFailover, Reverse: onlyFailback, SyncFirst: true},
	{Scenario: PhysicalToSecondary, Title: "Physical servers to a secondary site", Forward: agentFailover, Reverse: onlyFailback, FailbackTo: "vmware"},
	{Scenario: VMMToSecondary, Title: "Hyper-V with VMM to a secondary site", Forward: allFailovers, Reverse: allFailovers, SyncFirst: true},
	{Scenario: VMMSAN, Title: "Hyper-V with VMM to a secondary site by SAN", Forward: allFailovers, Reverse: allFailovers, SyncFirst: true, AutoCommit: true, ByArray: true},
	{Scenario: AzureToAzure, Title: "Migration from Azure to Azure", Forward: agentFailover, Reverse: noFailover, Migration: true, SyncFirst: true},
	{Scenario: AWSToAzure, Title: "Migration from AWS to Azure", Forward: agentFailover, Reverse: noFailover, Migration: true, SyncFirst: true},
	// Ours, not in the table. In reverse there is the failback and nothing else.
	{Scenario: KVMToSecondary, Title: "KVM to a secondary site", Forward: allFailovers, Reverse: onlyFailback, SyncFirst: true},
	{Scenario: Lab, Title: "Lab", Forward: allFailovers, Reverse: onlyFailback, SyncFirst: true},
}

// RulesFor gives the rules of a scenario.
func RulesFor(s Scenario) (Rules, error) {
	for _, r := range matrix {
		if r.Scenario == s {
			return r, nil
		}
	}
	return Rules{}, fmt.Errorf("%q is not a scenario", s)
}

// Scenarios are the rules of all scenarios, in the order of the field.
func Scenarios() []Rules { return append([]Rules(nil), matrix...) }
