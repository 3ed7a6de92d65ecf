package web

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
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
	u, _, _ := strings.Cut(v.path, "?")
	name := strings.TrimSuffix(cmp.Or(strings.Trim(strings.TrimPrefix(u, "/help"), "/"), "index"), ".md")
	text, ok := k.manual.pages[name+"."+v.words.Lang()]
	if !ok {
		text, ok = k.manual.pages[name]
	}
	if !ok {
		return built{}, store.ErrNotFound
	}
	title := cmp.Or(text.Title, v.words.T("nav.help"))
	return built{title: title, place: "help", body: view.HelpPage(text, name == "index")}, nil
}
