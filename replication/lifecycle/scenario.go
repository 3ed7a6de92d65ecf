package lifecycle

// Scenario is a pair of kinds of places between which machines are protected.
type Scenario string
