package lifecycle

import "fmt"

// DrillEvent is something that happened to a machine's test failover.
type DrillEvent string

const (
	DrillAsked     DrillEvent = "test failover asked"
	DrillBooted    DrillEvent = "test machine booted" // and everything asked of it was seen
	DrillFailed    DrillEvent = "test failover failed"
	CleanupStarted DrillEvent = "cleanup started"
	CleanupDone    DrillEvent = "cleanup done"
)

// drills is all that can happen to a test failover. What is not listed is refused.
var drills = map[Drill]map[DrillEvent]Drill{
	NoDrill: {
		DrillAsked: DrillStarting,
	},
	DrillStarting: {
		DrillBooted:    DrillRunning,
		DrillFailed:    DrillUnhealthy,
		CleanupStarted: DrillCleanup, // the test was canceled on its way
	},
	DrillRunning: {
		DrillFailed:    DrillUnhealthy,
		CleanupStarted: DrillCleanup,
	},
	DrillUnhealthy: {
		DrillBooted:    DrillRunning, // the job was restarted and saw it up
		DrillFailed:    DrillUnhealthy,
		CleanupStarted: DrillCleanup,
	},
	DrillCleanup: {
		CleanupDone:    NoDrill,
		CleanupStarted: DrillCleanup, // asked again after an attempt that failed
		DrillFailed:    DrillUnhealthy,
	},
}

// NextDrill is where the test failover stands after e happened in d. An event
// that does not belong there is an error which names both, and d stays.
func NextDrill(d Drill, e DrillEvent) (Drill, error) {
	events, known := drills[d]
	if !known {
		return d, fmt.Errorf("%q is not a state of a test failover (event %q)", d, e)
	}
	next, allowed := events[e]
	if !allowed {
		name := string(d)
		if d == NoDrill {
			name = "no test failover"
		}
		return d, fmt.Errorf("event %q does not belong to state %q", e, name)
	}
	return next, nil
}

// Drills are all states of a test failover.
func Drills() []Drill {
	return []Drill{NoDrill, DrillStarting, DrillRunning, DrillCleanup, DrillUnhealthy}
}

// DrillEvents are all events of a test failover.
func DrillEvents() []DrillEvent {
	return []DrillEvent{DrillAsked, DrillBooted, DrillFailed, CleanupStarted, CleanupDone}
}
