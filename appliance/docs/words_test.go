package docs_test

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"riparo/appliance/docs"
)

// TestTheItalianManualCallsTheVaultVault: as the console does, which has a test of
// the same kind. An "archivio" is an archive, which a vault is not.
func TestTheItalianManualCallsTheVaultVault(t *testing.T) {
	other := regexp.MustCompile(`(?i)\barchivi[oa]?\b`)
	pages, err := fs.Glob(docs.Manual, "*.it.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("found the pages %q, %v", pages, err)
	}
	vaults := 0
	for _, name := range pages {
		text, err := fs.ReadFile(docs.Manual, name)
		if err != nil {
			t.Fatal(err)
		}
		vaults += strings.Count(string(text), "vault")
		for n, line := range strings.Split(string(text), "\n") {
			if found := other.FindString(line); found != "" {
				t.Errorf("%s, line %d: %q", name, n+1, found)
			}
		}
	}
	if vaults < 20 {
		t.Errorf("the vault is named %d times: the test looks at the wrong place", vaults)
	}
}
