package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSizesAreForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 64 << 30: "64.0 GiB", 1<<63 - 1: "8.0 EiB"} {
		if got := sizeOf(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestProgressIsALineNowAndThenWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		p := newTerminal(&bytes.Buffer{}, &errs).progress("copying")
		for i := range 251 {
			p.at(int64(i)<<20, 250<<20)
			time.Sleep(100 * time.Millisecond)
		}
		p.end()
		want := "copying: 40 %, 100.0 MiB of 250.0 MiB, 10.0 MiB/s\ncopying: 80 %, 200.0 MiB of 250.0 MiB, 10.0 MiB/s\n"
		if errs.String() != want {
			t.Errorf("got %q, want %q", errs.String(), want)
		}
	})
}

func TestProgressIsABarOnATerminalAndGoneAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		terminal := newTerminal(&bytes.Buffer{}, &errs)
		terminal.interactive = true
		p := terminal.progress("copying")
		for i := range 21 {
			p.at(int64(i), 20)
			time.Sleep(100 * time.Millisecond)
		}
		p.end()
		p.end()
		if n := strings.Count(errs.String(), "█"); n == 0 || !strings.HasSuffix(errs.String(), "\r\x1b[K") || strings.Contains(errs.String(), "\n") {
			t.Errorf("got %q", errs.String())
		}
		if n := strings.Count(errs.String(), "copying"); n != 10 {
			t.Errorf("drawn %d times in 2 s, want 10", n)
		}
	})
}
