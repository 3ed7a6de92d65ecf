package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
	// Each chapter of the standard has its rows.
	for chapter := 1; chapter <= 17; chapter++ {
		if !strings.Contains(string(page), fmt.Sprintf("\n| %d.", chapter)) {
			t.Errorf("chapter %d of the standard has no row", chapter)
		}
	}
}
