package view

import (
	"strings"
	"testing"
)

const aPage = "# Failover\n\nThe *five* ways.\n\n## Commit\n\nUntil the **commit** another `point` can be [chosen](x.md).\n\n| a | b |\n|---|---|\n| Überlast | 2 |\n\n## Other\n\nnothing\n"

func TestSectionsArePlainWordsUnderTheirHeadings(t *testing.T) {
	got := Markdown(aPage).Sections
	want := []Section{{"Failover", "failover", "The five ways."}, {"Commit", "commit", "Until the commit another point can be chosen. a b Überlast 2"}, {"Other", "other", "nothing"}}
	if len(got) != len(want) {
		t.Fatalf("got %d sections: %+v", len(got), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("section %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestASearchFindsSectionsWithAllWords(t *testing.T) {
	for _, c := range []struct {
		search, title, before, word string
	}{
		{"point", "Commit", "Until the commit another ", "point"},
		{"point commit", "Commit", "Until the commit another ", "point"},
		{"failover five", "Failover", "The ", "five"},
		{"überlast", "Commit", "Until the commit another point can be chosen. a b ", "Überlast"},
		{"point nothing", "", "", ""},
	} {
		var hits []Hit
		for _, s := range Markdown(aPage).Sections {
			if h, ok := s.Find(strings.Fields(c.search)); ok {
				hits = append(hits, h)
			}
		}
		switch {
		case c.title == "" && len(hits) > 0:
			t.Errorf("%q: got %+v, want nothing", c.search, hits)
		case c.title != "" && (len(hits) != 1 || hits[0].Title != c.title || hits[0].Before != c.before || hits[0].Word != c.word):
			t.Errorf("%q: got %+v, want %q around %q in %s", c.search, hits, c.before, c.word, c.title)
		}
	}
}

func TestASnippetIsShortAndWhole(t *testing.T) {
	s := Section{Words: strings.Repeat("è", 200) + " wanted " + strings.Repeat("ü", 200)}
	h, ok := s.Find([]string{"wanted"})
	if !ok || h.Word != "wanted" || len(h.Before) > around+4 || len(h.After) > around+4 || strings.ContainsRune(h.Before+h.After, '�') {
		t.Errorf("got %v %+v", ok, h)
	}
}
