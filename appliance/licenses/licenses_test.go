package licenses

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestEverythingLinkedHasItsLicense asks go what is linked into the programs and wants
// a text of the very version.
func TestEverythingLinkedHasItsLicense(t *testing.T) {
	have := map[string]bool{}
	for _, text := range All() {
		if text.Kind == "" {
			t.Errorf("%+v is of no kind that is known: %.80q", text.Of[0], text.Body)
		}
		if len(text.Body) < 100 || len(text.ID) != 12 {
			t.Errorf("%+v has the text %.80q and the id %q", text.Of[0], text.Body, text.ID)
		}
		for _, of := range text.Of {
			if text.Kind != "Notice" {
				have[of.Module+" "+of.Version] = true
			}
		}
	}
	used := map[string]bool{"go -": true}
	for _, system := range []string{"linux", "windows"} {
		c := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "riparo/appliance/cmd/...")
		c.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		out, err := c.Output()
		if err != nil {
			t.Fatalf("go list for %s: %v", system, err)
		}
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); line != "" {
				used[line] = true
			}
		}
	}
	if len(used) < 20 {
		t.Fatalf("go list found %d modules: the test looks at the wrong place", len(used))
	}
	for m := range used {
		if !have[m] {
			t.Errorf("%s is linked and has no license here; run build.sh check, which says how to gather them again", m)
		}
	}
	for m := range have {
		if !used[m] {
			t.Errorf("%s has a license here and is not linked", m)
		}
	}
}

func TestTheFileIsRead(t *testing.T) {
	got := parse("§ a v1 LICENSE\n§ b v2 sub dir/LICENSE\n\nApache License\n\n   Version 2.0\n\n§ a v1 NOTICE\n\nmade by a\n")
	if len(got) != 2 {
		t.Fatalf("read %d texts of 2: %+v", len(got), got)
	}
	if want := []Part{{"a", "v1", "LICENSE"}, {"b", "v2", "sub dir/LICENSE"}}; !slices.Equal(got[0].Of, want) || got[0].Kind != "Apache-2.0" || got[0].Body != "Apache License\n\n   Version 2.0\n" {
		t.Errorf("the first is %+v", got[0])
	}
	if got[1].Kind != "Notice" || got[1].Body != "made by a\n" || got[1].ID == got[0].ID {
		t.Errorf("the second is %+v", got[1])
	}
	if left := parse(""); len(left) != 0 {
		t.Errorf("nothing gives %+v", left)
	}
}
