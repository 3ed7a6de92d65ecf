package view

import (
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
)

// Section is a part of a page of the manual, from one heading to the next, as plain
// words: what is searched.
type Section struct {
	Title, Anchor string
	Words         string
}

// sectionsOf cuts a document at its headings. What stands before the first one
// belongs to a section without title.
func sectionsOf(document ast.Node, source []byte) []Section {
	var list []Section
	for n := document.FirstChild(); n != nil; n = n.NextSibling() {
		if h, ok := n.(*ast.Heading); ok {
			s := Section{Title: wordsOf(h, source)}
			if id, ok := h.AttributeString("id"); ok {
				if anchor, ok := id.([]byte); ok {
					s.Anchor = string(anchor)
				}
			}
			list = append(list, s)
			continue
		}
		if len(list) == 0 {
			list = append(list, Section{})
		}
		s := &list[len(list)-1]
		s.Words = strings.TrimSpace(s.Words + " " + wordsOf(n, source))
	}
	return list
}

// wordsOf is the text of a node and of all below it, without what makes it Markdown.
func wordsOf(n ast.Node, source []byte) string {
	var b strings.Builder
	walk(n, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.Text:
			b.Write(n.Segment.Value(source))
			if n.SoftLineBreak() || n.HardLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(n.Value)
		case *ast.CodeBlock, *ast.FencedCodeBlock:
			b.Write(n.Lines().Value(source))
		}
		if n.Type() == ast.TypeBlock && b.Len() > 0 {
			b.WriteByte(' ')
		}
	})
	return strings.Join(strings.Fields(b.String()), " ")
}

// Hit is a section that has all words of a search.
type Hit struct {
	Page, Title, Href   string
	Before, Word, After string // around the first word that was found
}

// around is how much of a section is shown beside what was found, in bytes.
const around = 90

// Find looks for all words of a search in a section. The words are lower case.
func (s Section) Find(words []string) (Hit, bool) {
	text := strings.ToLower(s.Title + " " + s.Words)
	for _, w := range words {
		if !strings.Contains(text, w) {
			return Hit{}, false
		}
	}
	h := Hit{Title: s.Title}
	lower := strings.ToLower(s.Words)
	if len(lower) != len(s.Words) { // a letter whose lower case is longer: positions differ
		return h, true
	}
	for _, w := range words {
		at := strings.Index(lower, w)
		if at < 0 {
			continue // only in the title
		}
		h.Before, h.Word, h.After = s.Words[:at], s.Words[at:at+len(w)], s.Words[at+len(w):]
		if cut := len(h.Before) - around; cut > 0 {
			for cut < len(h.Before) && !utf8.RuneStart(h.Before[cut]) {
				cut++
			}
			h.Before = "…" + h.Before[cut:]
		}
		if cut := around; cut < len(h.After) {
			for cut > 0 && !utf8.RuneStart(h.After[cut]) {
				cut--
			}
			h.After = h.After[:cut] + "…"
		}
		return h, true
	}
	h.After = s.Words
	if len(h.After) > 2*around {
		h.After = strings.ToValidUTF8(h.After[:2*around], "") + "…"
	}
	return h, true
}

// Help is a page of the manual, or what a search in it found.
type Help struct {
	Text   Text
	First  bool
	Search string
	Found  []Hit
}
