package main

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

func TestWrongUsageEndsWithTwo(t *testing.T) {
	for _, args := range [][]string{nil, {"nosuch"}, {"inventory", "extra"}, {"inventory", "--nosuch"}, {"version", "extra"}} {
		var out, errs bytes.Buffer
		if status := run(args, &out, &errs); status != 2 || out.Len() > 0 || !strings.Contains(errs.String(), "usage:") {
			t.Errorf("%q: status %d, %q, %q", args, status, out.String(), errs.String())
		}
	}
}

func TestEveryVerbSpeaksToPeopleAndPrograms(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "windows" {
		t.Skipf("the agent does not know %s", runtime.GOOS)
	}
	for _, args := range [][]string{{"version"}, {"inventory"}} {
		var people, programs, errs bytes.Buffer
		if status := run(args, &people, &errs); status != 0 || people.Len() == 0 || errs.Len() > 0 {
			t.Errorf("%q: status %d, %q, %q", args, status, people.String(), errs.String())
		}
		if status := run(append(args, "--json"), &programs, &errs); status != 0 || !json.Valid(programs.Bytes()) {
			t.Errorf("%q --json: status %d, %q", args, status, programs.String())
		}
	}
}
