package proof

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// refusal takes what would fail a test.
type refusal struct {
	testing.TB
	said string
}

func (r *refusal) Helper() {}

func (r *refusal) Fatalf(format string, args ...any) {
	r.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// refused is what a test says that fails in ask.
func refused(t *testing.T, ask func(testing.TB)) string {
	r := &refusal{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(r)
	}()
	<-done
	return r.said
}

func TestTimes(t *testing.T) {
	const variable = "RIPARO_PROOF_TIMES"
	if n := Times(t, variable, 7); n != 7 {
		t.Errorf("without the variable: %d, want 7", n)
	}
	t.Setenv(variable, "1000000")
	if n := Times(t, variable, 7); n != 1_000_000 {
		t.Errorf("got %d, want a million", n)
	}
	for _, text := range []string{"1e6", "0", "-3", "many", " 4", "99999999999999999999"} {
		t.Setenv(variable, text)
		want := variable + "=" + text + ": want a whole number above zero"
		if said := refused(t, func(tb testing.TB) { Times(tb, variable, 7) }); said != want {
			t.Errorf("%q: it says %q, want %q", text, said, want)
		}
	}
}

func TestUntil(t *testing.T) {
	from := func(text string) time.Duration {
		t.Setenv(timeVariable, text)
		return time.Until(Until(t))
	}
	if d := from(""); d < 23*time.Hour {
		t.Errorf("without the variable it ends in %v", d)
	}
	if d := from("15m"); d < 14*time.Minute || d > 15*time.Minute {
		t.Errorf("with 15m it ends in %v", d)
	}
	for _, text := range []string{"15", "0s", "-1m", "soon"} {
		t.Setenv(timeVariable, text)
		want := timeVariable + "=" + text + ": want a time as 15m"
		if said := refused(t, func(tb testing.TB) { Until(tb) }); said != want {
			t.Errorf("%q: it says %q, want %q", text, said, want)
		}
	}
}
