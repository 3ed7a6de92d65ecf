package web_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"riparo/store"
)

// TestWhatCanHaveTheFocusIsToldApart looks at what the socket sends of each page. A frame
// puts the new in the place of the old: whatever can have the focus, and all that it
// stands in, is known by an id or a key, or is the first of its kind where it stands.
// Otherwise the focus goes to another one when something comes or goes before it, and the
// next press of Enter asks for something else.
func TestWhatCanHaveTheFocusIsToldApart(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	pages := []string{"/", "/machines", "/jobs", "/jobs/" + runningJob, "/events", "/policies", "/infrastructure", "/alerts"}
	if err := h.store.View(func(tx *store.Tx) error {
		for m, err := range tx.Machines().All() {
			if err != nil {
				return err
			}
			pages = append(pages, "/machines/"+string(m.ID))
		}
		for j, err := range tx.Jobs().All() {
			if err != nil {
				return err
			}
			pages = append(pages, "/jobs/"+j.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range pages {
		s, status := b.dial(url.QueryEscape(page), nil)
		if s == nil {
			t.Fatalf("%s has no socket: %d", page, status)
		}
		root, err := html.Parse(strings.NewReader(s.until("data-as-of")))
		if err != nil {
			t.Fatal(err)
		}
		s.conn.Close()
		for n := range root.Descendants() {
			if !takesFocus(n) {
				continue
			}
			seen++
			for at := n; at.Parent.Data != "body"; at = at.Parent {
				if why := confused(at); why != "" {
					t.Errorf("%s: %s in %s", page, why, path(n))
					break
				}
			}
		}
	}
	if seen < 300 {
		t.Errorf("%d places for the focus were seen, want at least 300", seen)
	}
}

func attribute(n *html.Node, name string) string {
	if i := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name }); i >= 0 {
		return n.Attr[i].Val
	}
	return ""
}

func known(n *html.Node) string { return attribute(n, "id") + attribute(n, "data-key") }

func takesFocus(n *html.Node) bool {
	if n.Type != html.ElementNode {
		return false
	}
	switch n.Data {
	case "a", "button", "summary", "select", "textarea":
		return true
	case "input":
		return attribute(n, "type") != "hidden"
	}
	return attribute(n, "tabindex") != ""
}

// fixed are the classes of what always has the same children, in the same order.
var fixed = []string{"seg", "head", "figure", "columns", "bulk"}

// confused says whom an element can be taken for: for one of its kind that stands before
// it and may go, or that a new one may push into its place. Cells belong to their column.
func confused(n *html.Node) string {
	if known(n) != "" || n.Data == "td" || n.Data == "th" {
		return ""
	}
	for _, parent := range []*html.Node{n.Parent, n.Parent.Parent} {
		if slices.ContainsFunc(strings.Fields(attribute(parent, "class")), func(c string) bool { return slices.Contains(fixed, c) }) {
			return ""
		}
	}
	for other := n.PrevSibling; other != nil; other = other.PrevSibling {
		if other.Type == html.ElementNode && other.Data == n.Data && known(other) == "" {
			return "one " + n.Data + " behind another that has no key"
		}
	}
	return ""
}

func path(n *html.Node) string {
	var names []string
	for ; n.Parent != nil && n.Data != "body"; n = n.Parent {
		name := n.Data
		if k := known(n); k != "" {
			name += "#" + k
		}
		names = append(names, name)
	}
	slices.Reverse(names)
	return strings.Join(names, " › ")
}
