package demo

import (
	"testing"
)

func small(t *testing.T) Options {
	return Options{Data: t.TempDir(), Listen: "127.0.0.1:0", Machines: 1, DiskSize: 64 << 20, Churn: 512 << 10, Seed: 7, Tell: t.Logf}
}

func told(t *testing.T, o Options) (result Result) {
	t.Helper()
	err := Run(t.Context(), o, Stage{Told: func(r Result) error { result = r; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestTheWholeStoryIsVerified(t *testing.T) {
	result := told(t, small(t))
	if !result.Verified {
		t.Fatalf("got %+v; want a verified story", result)
	}
	for _, m := range result.Machines {
		if m.PointsJudged < points || m.FailoverSeconds == 0 || m.FailbackSeconds == 0 || m.ReverseBytes == 0 {
			t.Errorf("machine %+v: want every figure above 0", m)
		}
	}
}
