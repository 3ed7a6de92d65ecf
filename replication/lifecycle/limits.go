package lifecycle

import "time"

// Limits of the field. The marks say where they come from: [S] the product brief,
// [A16] the Site Recovery articles of 2016, [now] their later editions.
const (
	// ResyncLogPercent: a log of changes above this share of its disk's size makes
	// a resynchronization cheaper than the log [S].
	ResyncLogPercent = 50
	// TestFailoverLimit: a test failover that nobody cleans up is ended by itself
	// after two weeks [A16].
	TestFailoverLimit = 14 * 24 * time.Hour
	// DrillInterval: a test failover is recommended every six months [A16].
	DrillInterval = 182 * 24 * time.Hour
	// DiscoveryInterval is the time between two looks at a site [A16]; places that
	// send events are quicker.
	DiscoveryInterval = 15 * time.Minute
	// RegistrationKeyLife is how long a registration key is good for [A16].
	RegistrationKeyLife = 5 * 24 * time.Hour
	// MaxRetention is the longest that recovery points are kept by the console's
	// offer [now].
	MaxRetention = 15 * 24 * time.Hour
)

// Limits of a recovery plan [A16].
const (
	MaxPlanMachines = 50
	MaxPlanGroups   = 8 // group 1 and up to 7 more
	ScriptTimeout   = 600 * time.Second
)

// Limits of a machine that goes to a cloud [A16].
const (
	MaxCloudNameLength = 63 // letters, digits and hyphens
	MaxHostNameLength  = 15 // of a configuration server
	MaxVMwareDisks     = 64
	MaxHyperVDisks     = 16
)

// MinThrottleBitsPerSecond is the lowest throttle that is offered [A16]. The
// ceiling of 102 Mbps is lifted.
const MinThrottleBitsPerSecond = 512_000

// Alarms of a process server [now].
const (
	LoadWarningPercent       = 80 // processor or memory, for LoadWindow
	LoadCriticalPercent      = 95
	LoadWindow               = 15 * time.Minute
	CacheFreeWarningPercent  = 30
	CacheFreeCriticalPercent = 25
	BacklogWarning           = 30 * time.Minute // time to drain
	BacklogCritical          = 45 * time.Minute
	HeartbeatLimit           = 15 * time.Minute
)

// retryMinutes is the seed's schedule for what may pass by itself. It repeats its
// last step.
var retryMinutes = [...]time.Duration{1, 2, 4, 8, 10, 30}

// RetryWait is the time to wait after so many failures in a row: 1, 2, 4, 8, 10,
// then every 30 minutes.
func RetryWait(failures int) time.Duration {
	i := min(max(failures, 1), len(retryMinutes)) - 1
	return retryMinutes[i] * time.Minute
}
