package proof

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// timeVariable says, as 15m, when a proof is to begin nothing more.
const timeVariable = "RIPARO_TIME"

// Times is the number that a variable of the environment asks for.
func Times(t testing.TB, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a whole number above zero", variable, text)
	}
	return n
}

// Until is when nothing more is to begin: after the time that RIPARO_TIME, as 15m, gives
// from now on, or without it in a day.
func Until(t testing.TB) time.Time {
	t.Helper()
	text := os.Getenv(timeVariable)
	if text == "" {
		return time.Now().Add(24 * time.Hour)
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("%s=%s: want a time as 15m", timeVariable, text)
	}
	return time.Now().Add(d)
}
