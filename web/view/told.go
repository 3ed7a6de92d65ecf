package view

import (
	"cmp"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// told are the sentences of the daemon that stand beside their translation, which is
// easier to write, and to read again, than a key here and a pattern there. A blank is
// {Name}; it begins with a capital, and what its name begins with says how its value
// is told: see [pattern].
//
//go:embed told.it.toml
var toldItalian []byte

// sentences are the translations of one language.
type sentences struct {
	whole  map[string]string // those without blanks
	blanks []toldPattern     // the most particular first
}

// toldPattern is a sentence with blanks and its translation.
type toldPattern struct {
	begin string // the text before the first blank: most patterns fail here, cheaply
	fixed int    // letters outside of blanks
	form  *regexp.Regexp
	text  string
}

var blank = regexp.MustCompile(`\{([A-Z][A-Za-z]*)\}`)

// readSentences reads the sentences of a language: English on the left.
func readSentences(file []byte) (sentences, error) {
	s := sentences{whole: map[string]string{}}
	var pairs map[string]string
	if err := toml.Unmarshal(file, &pairs); err != nil {
		return s, fmt.Errorf("read what the daemon says: %w", err)
	}
	for english, text := range pairs {
		places := blank.FindAllStringSubmatchIndex(english, -1)
		if len(places) == 0 {
			s.whole[english] = text
			continue
		}
		p := toldPattern{begin: english[:places[0][0]], text: text}
		var form strings.Builder
		form.WriteString("(?s)^")
		last := 0
		for _, at := range places {
			form.WriteString(regexp.QuoteMeta(english[last:at[0]]))
			fmt.Fprintf(&form, "(?P<%s>.+?)", english[at[2]:at[3]])
			p.fixed += at[0] - last
			last = at[1]
		}
		form.WriteString(regexp.QuoteMeta(english[last:]) + "$")
		p.fixed += len(english) - last
		var err error
		if p.form, err = regexp.Compile(form.String()); err != nil {
			return s, fmt.Errorf("read the sentence %q: %w", english, err)
		}
		for _, m := range blank.FindAllStringSubmatch(text, -1) {
			if p.form.SubexpIndex(m[1]) < 0 {
				return s, fmt.Errorf("the translation of %q fills a blank %s that it does not have", english, m[1])
			}
		}
		s.blanks = append(s.blanks, p)
	}
	slices.SortFunc(s.blanks, func(a, b toldPattern) int {
		return cmp.Or(b.fixed-a.fixed, strings.Compare(a.form.String(), b.form.String()))
	})
	return s, nil
}

// telling is how many letters outside of blanks make a pattern a sentence. One with
// fewer fits nearly everything: it is taken only for a sentence that is known itself,
// as half of a sentence in each language is worse than all of it in one.
const telling = 6

// knows reports whether every blank that is a sentence has a translation.
func (w *Words) knows(values, names []string) bool {
	for i, name := range names {
		if strings.HasPrefix(name, "Said") && w.Said(values[i]) == values[i] {
			return false
		}
	}
	return true
}

// told gives a sentence with blanks in the reader's language, when it is known.
func (w *Words) told(text string) (string, bool) {
	for _, p := range w.tongue.sentences.blanks {
		if !strings.HasPrefix(text, p.begin) {
			continue
		}
		m := p.form.FindStringSubmatch(text)
		if m == nil || p.fixed < telling && !w.knows(m, p.form.SubexpNames()) {
			continue
		}
		return blank.ReplaceAllStringFunc(p.text, func(b string) string {
			name := b[1 : len(b)-1]
			return w.filled(name, m[p.form.SubexpIndex(name)])
		}), true
	}
	return "", false
}
