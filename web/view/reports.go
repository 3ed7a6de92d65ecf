package view

import (
	"strconv"
	"time"
)

// Reports is the page of drills and of the recovery point objective.
type Reports struct {
	Now                   time.Time
	Periods               []Choice
	Since                 string
	Machine, All          string // the filter, to be seen and taken away
	Facts                 []Fact
	Drills                []DrillRow
	RPO                   []ComplianceRow
	EmptyDrills, EmptyRPO Empty

	DrillsCount, RPOCount string // of all pages

	// Addresses.
	DrillsCSV, DrillsJSON, RPOCSV, RPOJSON     string
	DrillsPrior, DrillsNext, RPOPrior, RPONext string
}

// DrillRow is a drill in a list.
type DrillRow struct {
	ID, Href, Machine string
	Started           time.Time
	Actor             string
	Result            Badge
	RPO, RTO          string
	Cleaned           time.Time
	CleanedBy, Notes  string
	Due               time.Time
}

// ComplianceRow says how a machine met its objective.
type ComplianceRow struct {
	ID, Href, Machine, Policy string
	Threshold                 string
	Met                       Badge
	Percent                   float64 // -1: not judged
	Breaches, Late, Longest   string
	Note                      string
	DrillHref                 string
}

func (r ComplianceRow) meter() string { return strconv.FormatFloat(r.Percent, 'f', 2, 64) }

// DrillReport is one drill with all that was seen.
type DrillReport struct {
	Now                   time.Time
	ID, Machine, Job, Log string
	Result                Badge
	Facts                 []Fact
	Steps                 []Step
	Console, Notes, Cause string
	Printed               string
}
