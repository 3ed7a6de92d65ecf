package fleece

import (
	"testing"
	"time"
)

// SetGuardPatience lets the guards of a test go on for so long without a look.
func SetGuardPatience(t *testing.T, patience time.Duration) {
	before := guardPatience
	guardPatience = patience
	t.Cleanup(func() { guardPatience = before })
}
