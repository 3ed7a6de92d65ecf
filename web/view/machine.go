package view

import "time"

// Machines is the page of all machines: those protected and those to protect.
type Machines struct {
	Now        time.Time
	Search     string
	Health     string
	Sort, Hide string // as the address has them
	Heads      map[string]Head
	Columns    []Choice // each toggles one
	CSV        string
	Filter     []Choice
	Rows       []MachineRow
	Total      int
	Found      int // rows of all pages
	Prior      string
	Next       string
	Empty      Empty
	Discovered []DiscoveredGroup
	CanProtect bool
	Bulk       []Choice // what can be done to those that are marked
}

// Head is the head of a column that sorts.
type Head struct {
	Text   string
	View   string // what to ask for to sort by it
	Sorted string // ascending, descending, or empty
	Hidden bool
}

// MachineRow is a protected machine in a list.
type MachineRow struct {
	ID, Href, Name  string
	State           Badge
	Health          Badge
	Note            string // the activity, or what is wrong
	Progress        *Progress
	PointTime       time.Time
	RPOTone         Tone
	Route           string // Milan → Rome
	Policy          string
	Drill           Badge
	Replicates      bool
	DirectionChange bool
}

// DiscoveredGroup is a site with machines that can be protected.
type DiscoveredGroup struct {
	Site     string
	Emulated bool
	Seen     time.Time
	Problem  string
	Rows     []DiscoveredRow
	None     string // instead of rows
	Others   string // "3 machines are protected already, 2 are replicas"
}

// DiscoveredRow is a machine that is not protected.
type DiscoveredRow struct {
	Name      string
	Power     Badge
	Facts     string // 2 CPUs · 4 GiB · 2 disks, 64 GiB
	Protect   *Action
	Obstacles []string
}

// Machine is the page of one protected machine.
type Machine struct {
	Now      time.Time
	ID, Name string
	Route    string
	Badges   []Badge
	Banner   *Banner
	Alarm    *Banner  // its disks seem to be encrypted
	Actions  []Action // allowed now
	More     []Action // allowed, less often wanted
	Denied   []Action // with why
	Facts    []Fact
	Activity string
	Progress *Progress
	Findings []Finding
	Timeline Timeline
	Latest   []PointRow
	RPO      Chart
	Disks    []DiskRow
	Drill    DrillCard
	Jobs     []JobRow
	Events   []EventRow
}

// Banner is a decision that waits for somebody.
type Banner struct {
	Tone    Tone
	Title   string
	Text    string
	Actions []Action
}

// PointRow is a recovery point in a list.
type PointRow struct {
	ID      string
	Kind    string
	Text    string
	Time    time.Time
	Changed string
	Stored  string
	Signs   []Badge
	Pin     string // where the form goes; empty: not to be pinned
	Unpin   string
}

// DiskRow is a disk of a machine.
type DiskRow struct {
	Key, ID, Size string
	Boot          bool
	State         Badge
}

// DrillCard tells of the last test failover and of one under way.
type DrillCard struct {
	State    Badge
	Text     string
	Facts    []Fact
	Evidence []Fact
	Action   *Action
}
