package view

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Section is a part of a page of the manual, from one heading to the next, as plain
// words: what is searched.
type Section struct {
	Title, Anchor string
	Words         string
}

// Sections cuts a Markdown file at its headings. What stands before the first one
// belongs to it.
func Sections(text string) []Section {
	var list []Section
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		plain := strings.TrimSpace(line)
		if h := heading.FindStringSubmatch(plain); h != nil {
			list = append(list, Section{Title: h[2], Anchor: slug(strings.ToLower(h[2]))})
			continue
		}
		if len(list) == 0 {
			list = append(list, Section{})
		}
		s := &list[len(list)-1]
		if words := unmarked(plain); words != "" {
			s.Words = strings.TrimSpace(s.Words + " " + words)
		}
	}
	return list
}

var (
	marks = strings.NewReplacer("**", "", "`", "", "|", " ", "```", "")
	space = regexp.MustCompile(`\s+`)
)

// unmarked is a line without what makes it Markdown.
func unmarked(line string) string {
	if ruler.MatchString(line) {
		return ""
	}
	line = emphasis.ReplaceAllString(link.ReplaceAllString(line, "$1"), "$1$2")
	line = strings.TrimLeft(line, "-*> ")
	return strings.TrimSpace(space.ReplaceAllString(marks.Replace(line), " "))
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
