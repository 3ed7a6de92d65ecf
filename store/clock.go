package store

import "time"

// SettingClock holds a ClockNote.
const SettingClock = "clock"

// ClockNote is since when the clock is ahead of the time that the vault trusts; zero:
// it is not.
type ClockNote struct {
	Since time.Time `json:"since,omitzero"`
}
