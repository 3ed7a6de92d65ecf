package replication

import (
	"testing"
	"time"
)

func TestThePointTellsItsTime(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8_000_000, time.FixedZone("", 3600))
	if got, ok := NewPointID(at).Time(); !ok || !got.Equal(at) {
		t.Errorf("the name of a point of %v tells %v, %v", at, got, ok)
	}
	for _, name := range []PointID{"", "p000001", "20261340T000000.000Z-00000000"} {
		if got, ok := name.Time(); ok {
			t.Errorf("%q tells %v", name, got)
		}
	}
}
