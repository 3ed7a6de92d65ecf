package store

import "time"

// SettingSetup holds a SetupProgress.
const SettingSetup = "setup"

// SetupProgress is how far the setup is. It is kept after every step.
type SetupProgress struct {
	Done     map[string]time.Time `json:"done,omitempty"` // by step
	Finished time.Time            `json:"finished,omitzero"`
	Checks   map[string]Checked   `json:"checks,omitempty"` // by check
	Probe    *Probed              `json:"probe,omitempty"`
	// Site and Target are the sites that were added on the way.
	Site   string `json:"site,omitempty"`
	Target string `json:"target,omitempty"`
}

// Outcomes of a check.
const (
	CheckGood = "good"
	CheckWarn = "warn" // works, not well
	CheckBad  = "bad"
)

// Checked is the outcome of a check. Args are what its words need.
type Checked struct {
	ID      string            `json:"id"`
	Outcome string            `json:"outcome"`
	Args    map[string]string `json:"args,omitempty"`
	Cause   string            `json:"cause,omitempty"`
	Action  string            `json:"action,omitempty"`
	Time    time.Time         `json:"time"`
	Took    time.Duration     `json:"took"`
}

// Probed is what was measured of a folder for the vault.
type Probed struct {
	Folder     string        `json:"folder"`
	WriteSpeed float64       `json:"write_bytes_per_second"`
	Sync       time.Duration `json:"sync"`
	Free       int64         `json:"free_bytes"`
	Total      int64         `json:"total_bytes"`
	Time       time.Time     `json:"time"`
}
