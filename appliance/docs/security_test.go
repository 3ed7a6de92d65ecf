package docs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"riparo/appliance/docs"
)

// TestTheSecurityTableCitesTestsThatExist holds the table of the standard to what is
// there: a test that was renamed or removed takes its row along.
func TestTheSecurityTableCitesTestsThatExist(t *testing.T) {
	page, err := fs.ReadFile(docs.Manual, "security.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9]+)\(`)
	err = filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() && (e.Name() == ".git" || e.Name() == "dist" || e.Name() == ".tools") {
			if e != nil && e.IsDir() {
				return fs.SkipDir
			}
			return err
		}
		if e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			exists[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cited := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1)
	if len(cited) < 60 || len(exists) < 300 {
		t.Fatalf("found %d citations and %d tests: the test looks at the wrong place", len(cited), len(exists))
	}
	for _, c := range cited {
		if !exists[c[1]] {
			t.Errorf("the page cites %s, which does not exist", c[1])
		}
	}
}

// requirements are those of levels 1 and 2 of OWASP ASVS 5.0, by section: 1.2.1-9 are
// nine.
const requirements = `1.1.1-2 1.2.1-9 1.3.1-11 1.4.1-3 1.5.1-2 2.1.1-3 2.2.1-3 2.3.1-4 2.4.1 3.2.1-2 3.3.1-4 3.4.1-6
3.5.1-5 3.7.1-2 4.1.1-3 4.2.1 4.3.1-2 4.4.1-4 5.1.1 5.2.1-3 5.3.1-2 5.4.1-3 6.1.1-3 6.2.1-12
6.3.1-4 6.4.1-4 6.5.1-5 6.6.1-3 6.8.1-4 7.1.1-3 7.2.1-4 7.3.1-2 7.4.1-5 7.5.1-2 7.6.1-2 8.1.1-2
8.2.1-3 8.3.1 8.4.1 9.1.1-3 9.2.1-4 10.1.1-2 10.2.1-2 10.3.1-4 10.4.1-11 10.5.1-5 10.6.1-2
10.7.1-3 11.1.1-2 11.2.1-3 11.3.1-3 11.4.1-4 11.5.1 11.6.1 12.1.1-3 12.2.1-2 12.3.1-4 13.1.1
13.2.1-5 13.3.1-2 13.4.1-5 14.1.1-2 14.2.1-4 14.3.1-3 15.1.1-3 15.2.1-3 15.3.1-7 16.1.1 16.2.1-5
16.3.1-4 16.4.1-3 16.5.1-3 17.1.1 17.2.1-4 17.3.1-2`

// TestTheSecurityTableLeavesNoRequirementOut: each has one row, in both languages, with
// the same tests, and each row says something.
func TestTheSecurityTableLeavesNoRequirementOut(t *testing.T) {
	var want []string
	for _, section := range strings.Fields(requirements) {
		at := strings.LastIndex(section, ".")
		for part := range strings.SplitSeq(section[at+1:], ",") {
			first, last, ranged := strings.Cut(part, "-")
			from, err1 := strconv.Atoi(first)
			to := from
			var err2 error
			if ranged {
				to, err2 = strconv.Atoi(last)
			}
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			for n := from; n <= to; n++ {
				want = append(want, fmt.Sprintf("V%s.%d", section[:at], n))
			}
		}
	}
	row := regexp.MustCompile(`(?m)^\| (V[0-9.]+) ([^|]+) \| ([^|]*) \|$`)
	name := regexp.MustCompile("`(?:Test|Fuzz)[A-Za-z0-9]+`")
	cited := map[string][]string{}
	for _, page := range []string{"security.md", "security.it.md"} {
		text, err := fs.ReadFile(docs.Manual, page)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range row.FindAllStringSubmatch(string(text), -1) {
			got = append(got, m[1])
			if strings.TrimSpace(m[3]) == "" {
				t.Errorf("%s: %s names neither a test nor a reason", page, m[1])
			}
			tests := name.FindAllString(m[3], -1)
			if page == "security.md" {
				cited[m[1]] = tests
			} else if !slices.Equal(tests, cited[m[1]]) {
				t.Errorf("%s cites %v in Italian and %v in English", m[1], tests, cited[m[1]])
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %d rows, want %d; first difference at %s", page, len(got), len(want), difference(got, want))
		}
	}
	if len(want) != 253 {
		t.Errorf("%d requirements, want the 253 of levels 1 and 2", len(want))
	}
}

func difference(got, want []string) string {
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			return want[i]
		}
	}
	return "the end"
}
