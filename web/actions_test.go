package web_test

import (
	"testing"

	"riparo/web"
	"riparo/web/view"
)

// TestEveryActionHasAWord: the audit log tells each in the reader's language, not by
// the name that programs know it by.
func TestEveryActionHasAWord(t *testing.T) {
	h := newHouse(t, true)
	catalog, err := view.Load()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, pattern := range h.console.Patterns() {
		if !web.Recorded(pattern) {
			continue
		}
		action := web.ActionOf(pattern)
		seen++
		for _, lang := range view.Languages {
			if w := catalog.Words(lang, nil); w.Named("action", action) == action {
				t.Errorf("%s: the action %s has no word in %s", pattern, action, lang)
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d actions: the search is broken", seen)
	}
}
