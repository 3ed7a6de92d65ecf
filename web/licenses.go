package web

import (
	"cmp"
	"runtime"
	"slices"

	"riparo/store"
	"riparo/web/view"
)

// License is a license text and all that carry it.
type License struct {
	ID   string // for its address
	Kind string // its SPDX name; empty: it has none
	Body string
	Of   []Licensed
}

// Licensed is something third-party that is linked. Version is "-" for the toolchain.
type Licensed struct {
	Module, Version, File string
}

// version is what the page tells.
func (l Licensed) version() string {
	if l.Version == "-" {
		return runtime.Version()
	}
	return l.Version
}

// licensedParts lists what is linked, each with its texts.
func (k *Console) licensedParts(w *view.Words) []view.Part {
	at := map[string]int{}
	var parts []view.Part
	for _, text := range k.Licenses {
		for _, of := range text.Of {
			i, known := at[of.Module]
			if !known {
				i = len(parts)
				at[of.Module] = i
				parts = append(parts, view.Part{Name: of.Module, Version: of.version()})
			}
			parts[i].Texts = append(parts[i].Texts, view.Choice{Href: "/settings/licenses/" + text.ID, Text: licenseName(w, text), Note: of.File})
		}
	}
	slices.SortFunc(parts, func(a, b view.Part) int { return cmp.Compare(a.Name, b.Name) })
	return parts
}

func licenseName(w *view.Words, l License) string {
	switch l.Kind {
	case "":
		return w.T("license")
	case "Notice":
		return w.T("license.notice")
	}
	return l.Kind
}

// license is the page of one text.
func (k *Console) license(v visit) (built, error) {
	i := slices.IndexFunc(k.Licenses, func(l License) bool { return l.ID == v.id })
	if i < 0 {
		return built{}, store.ErrNotFound
	}
	text := k.Licenses[i]
	page := view.License{Name: licenseName(v.words, text), Text: text.Body}
	for _, of := range text.Of {
		page.Of = append(page.Of, view.Part{Name: of.Module, Version: of.version(), File: of.File})
	}
	return built{title: page.Name, place: "settings", body: view.LicensePage(page)}, nil
}
