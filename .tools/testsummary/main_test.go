package main

import (
	"fmt"
	"strings"
	"testing"
)

func run(t *testing.T, lines ...string) (string, bool) {
	t.Helper()
	var out strings.Builder
	s := summary{out: &out, packages: map[string]*tested{}, builds: map[string]*strings.Builder{}, counts: map[string]int{}}
	if err := s.read(strings.NewReader(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	ok := s.close()
	return out.String(), ok
}

func line(action, test, output string) string {
	return fmt.Sprintf(`{"Action":%q,"Package":"p","Test":%q,"Output":%q}`, action, test, output)
}

func TestTheLastLineCountsLeaves(t *testing.T) {
	out, ok := run(t, line("run", "TestA", ""), line("run", "TestA/one", ""), line("pass", "TestA/one", ""),
		line("run", "TestA/two", ""), line("output", "TestA/two", "    a_test.go:3: no guest here\n"), line("skip", "TestA/two", ""), line("pass", "TestA", ""), line("pass", "", ""))
	if !ok || !strings.HasSuffix(out, "skipped p TestA/two: no guest here\n1 passed, 0 failed, 1 skipped\n") {
		t.Errorf("got %v:\n%s", ok, out)
	}
}

func TestEveryWayToFailFails(t *testing.T) {
	for name, lines := range map[string][]string{
		"a test":            {line("output", "TestA", "boom\n"), line("fail", "TestA", ""), line("fail", "", "")},
		"a test that died":  {line("run", "TestA", ""), line("output", "TestA", "panic: boom\n"), line("fail", "", "")},
		"a leak":            {line("run", "TestA", ""), line("pass", "TestA", ""), line("output", "", "goleak: boom\n"), line("fail", "", "")},
		"a build":           {`{"ImportPath":"p [p.test]","Action":"build-output","Output":"boom\n"}`, line("fail", "", "")},
		"an unfinished run": {line("run", "TestA", ""), line("output", "TestA", "boom\n")},
	} {
		out, ok := run(t, lines...)
		if ok || !strings.Contains(out, "boom") || !strings.Contains(out, " 1 failed, 0 skipped\n") {
			t.Errorf("%s: got %v:\n%s", name, ok, out)
		}
	}
	if out, ok := run(t, "go: cannot find main module"); ok || !strings.Contains(out, "cannot find main module") {
		t.Errorf("nothing ran: got %v:\n%s", ok, out)
	}
	if out, _ := run(t, line("fail", "TestA/one", ""), line("fail", "TestA", ""), line("fail", "", "")); !strings.Contains(out, "0 passed, ") {
		t.Errorf("got:\n%s", out)
	}
}
