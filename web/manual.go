package web

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"riparo/store"
	"riparo/web/view"
)

// manual is the Help: Markdown files, the first one index.md. A file NAME.it.md is
// the Italian of NAME.md.
type manual struct {
	pages map[string]view.Text // by file name without .md
}

// maxManualFile bounds one file of the manual.
const maxManualFile = 1 << 20

// loadManual reads all files. Without any there is no manual.
func loadManual(docs fs.FS) (*manual, error) {
	if docs == nil {
		return nil, nil
	}
	m := &manual{pages: map[string]view.Text{}}
	err := fs.WalkDir(docs, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".md" {
			return err
		}
		text, err := fs.ReadFile(docs, name)
		if err != nil {
			return err
		}
		if len(text) > maxManualFile {
			return fmt.Errorf("%s has %d bytes: limit %d", name, len(text), maxManualFile)
		}
		m.pages[strings.TrimSuffix(name, ".md")] = view.Markdown(string(text))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, ok := m.pages["index"]; !ok {
		return nil, nil
	}
	return m, nil
}

func (k *Console) help(v visit) (built, error) {
	w := v.words
	if search := strings.TrimSpace(v.query.Get("q")); search != "" {
		h := view.Help{Search: search, Found: k.manual.find(search, w.Lang())}
		return built{title: w.T("help.found", "Search", search), place: "help", body: view.HelpPage(h)}, nil
	}
	u, _, _ := strings.Cut(v.path, "?")
	name := strings.TrimSuffix(cmp.Or(strings.Trim(strings.TrimPrefix(u, "/help"), "/"), "index"), ".md")
	page, ok := k.manual.pages[k.manual.in(w.Lang(), name)]
	if !ok {
		return built{}, store.ErrNotFound
	}
	return built{title: cmp.Or(page.Title, w.T("nav.help")), place: "help", body: view.HelpPage(view.Help{Text: page, First: name == "index"})}, nil
}

// in is the name of a page in a language: the page itself where it was not
// translated.
func (m *manual) in(lang, name string) string {
	if _, ok := m.pages[name+"."+lang]; ok {
		return name + "." + lang
	}
	return name
}

// Bounds of a search: what a person types and reads.
const (
	searchWords = 8
	searchHits  = 40
)

// find gives the sections that have all words of a search: those that have it in
// their title first, then in the order of the pages.
func (m *manual) find(search, lang string) []view.Hit {
	words := strings.Fields(strings.ToLower(search))
	words = words[:min(len(words), searchWords)]
	var titled, others []view.Hit
	for _, name := range slices.Sorted(maps.Keys(m.pages)) {
		if strings.Contains(name, ".") { // a translation: found under the name of the page
			continue
		}
		page := m.pages[m.in(lang, name)]
		for _, s := range page.Sections {
			h, ok := s.Find(words)
			if !ok {
				continue
			}
			h.Page, h.Href = page.Title, "/help/"+name+"#"+s.Anchor
			if strings.Contains(strings.ToLower(s.Title), words[0]) {
				titled = append(titled, h)
			} else {
				others = append(others, h)
			}
		}
	}
	found := append(titled, others...)
	return found[:min(len(found), searchHits)]
}
