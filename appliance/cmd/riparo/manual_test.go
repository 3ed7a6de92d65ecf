package main

import (
	"io"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"riparo/appliance/docs"
)

// Every command that the manual shows can be given: the verb exists, its flags do,
// and what it must have is there.
func TestTheManualShowsCommandsThatExist(t *testing.T) {
	shown := 0
	for name, text := range manualPages(t) {
		inside := false
		for line := range strings.SplitSeq(text, "\n") {
			if strings.HasPrefix(line, "```") {
				inside = !inside
			}
			if !inside || !strings.HasPrefix(line, "riparo ") {
				continue
			}
			shown++
			root := newRoot(newTerminal(io.Discard, io.Discard))
			command, rest, err := root.Find(shellWords(line)[1:])
			if err == nil {
				err = command.ParseFlags(rest)
			}
			if err == nil && command.Runnable() {
				err = command.ValidateArgs(command.Flags().Args())
			}
			if err == nil {
				err = command.ValidateRequiredFlags()
			}
			if err != nil {
				t.Errorf("%s: %s: %v", name, line, err)
			}
		}
	}
	if shown < 15 {
		t.Errorf("the manual shows %d commands, want at least 15: is it read?", shown)
	}
}

var quoted = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)

// shellWords splits a line as a shell does, as far as the manual needs it.
func shellWords(line string) []string {
	list := quoted.FindAllString(line, -1)
	for i, w := range list {
		list[i] = strings.Trim(w, `"'`)
	}
	return list
}

var manualLink = regexp.MustCompile(`\]\(([a-z-]+\.md)\)`)

func TestEveryLinkOfTheManualLeadsSomewhere(t *testing.T) {
	pages := manualPages(t)
	for name, text := range pages {
		for _, m := range manualLink.FindAllStringSubmatch(text, -1) {
			if _, ok := pages[m[1]]; !ok {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
		if !strings.HasPrefix(text, "# ") {
			t.Errorf("%s does not begin with its title", name)
		}
		if name != "index.md" && !strings.Contains(name, ".it.") && !strings.Contains(pages["index.md"], "("+name+")") {
			t.Errorf("%s cannot be reached from the first page", name)
		}
	}
}

func manualPages(t *testing.T) map[string]string {
	t.Helper()
	files, err := fs.Glob(docs.Manual, "*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for _, name := range files {
		text, err := fs.ReadFile(docs.Manual, name)
		if err != nil {
			t.Fatal(err)
		}
		pages[name] = string(text)
	}
	return pages
}
