package appliance_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTheTestsOfTheFaultsExist: the manual names for each fault the test that shows what
// happens. Both languages name the same ones, and each is there.
func TestTheTestsOfTheFaultsExist(t *testing.T) {
	named := regexp.MustCompile("`(Test\\w+)`")
	var want []string
	for _, page := range []string{"docs/faults.md", "docs/faults.it.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			found := named.FindAllStringSubmatch(line, -1)
			if strings.HasPrefix(line, "| ") && len(found) == 0 && !strings.Contains(line, "| test |") {
				t.Errorf("%s: no test shows this: %s", page, line)
			}
			for _, m := range found {
				names = append(names, m[1])
			}
		}
		if want != nil && !slices.Equal(names, want) {
			t.Errorf("%s names %v, want the same as the other language: %v", page, names, want)
		}
		want = names
	}
	if len(want) < 10 {
		t.Errorf("%d tests are named: that is no table of faults", len(want))
	}
	var source strings.Builder
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range want {
		if !strings.Contains(source.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("there is no test %s", name)
		}
	}
}
