package licenses

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"strings"
	"sync"
)

//go:embed licenses.txt
var file string

// mark begins the line that tells where a text comes from.
const mark = "§ "

// Text is a license, or a notice that goes with one, and all that carry it in the very
// same words.
type Text struct {
	ID   string // of its words, for addresses
	Kind string // its SPDX name, "Notice", or "" when it is none of the usual ones
	Body string
	Of   []Part
}

// Part is something third-party that is linked. Version is "-" for the toolchain, which
// is that of whoever built the program.
type Part struct {
	Module  string
	Version string
	File    string // that the text is in
}

// All gives the texts in the order of their first part.
var All = sync.OnceValue(func() []Text { return parse(file) })

// parse reads the file.
func parse(file string) (all []Text) {
	var body strings.Builder
	end := func() {
		if n := len(all); n > 0 && body.Len() > 0 {
			t := &all[n-1]
			t.Body = strings.Trim(body.String(), "\n") + "\n"
			t.Kind = kindOf(t.Of[0].File, t.Body)
			sum := sha256.Sum256([]byte(t.Body))
			t.ID = hex.EncodeToString(sum[:6])
			body.Reset()
		}
	}
	for line := range strings.Lines(file) {
		place, marked := strings.CutPrefix(line, mark)
		if !marked {
			body.WriteString(line)
			continue
		}
		if body.Len() > 0 || len(all) == 0 {
			end()
			all = append(all, Text{})
		}
		f := strings.Fields(place)
		if len(f) < 3 {
			continue
		}
		t := &all[len(all)-1]
		t.Of = append(t.Of, Part{Module: f[0], Version: f[1], File: strings.Join(f[2:], " ")})
	}
	end()
	return all
}

// signs tell a kind by words that no other has. The first that fits counts.
var signs = []struct {
	kind  string
	words []string
}{
	{"Apache-2.0", []string{"Apache License", "Version 2.0"}},
	{"MPL-2.0", []string{"Mozilla Public License", "2.0"}},
	{"ISC", []string{"Permission to use, copy, modify, and"}},
	{"MIT", []string{"Permission is hereby granted, free of charge"}},
	{"BSD-3-Clause", []string{"Redistribution and use in source and binary forms", "endorse or promote"}},
	{"BSD-2-Clause", []string{"Redistribution and use in source and binary forms"}},
	{"Unlicense", []string{"This is free and unencumbered software"}},
	{"CC0-1.0", []string{"CC0 1.0 Universal"}},
}

func kindOf(name, text string) string {
	if lower := strings.ToLower(name); strings.Contains(lower, "notice") || strings.Contains(lower, "copyright") {
		return "Notice"
	}
	text = strings.Join(strings.Fields(text), " ")
next:
	for _, s := range signs {
		for _, words := range s.words {
			if !strings.Contains(text, words) {
				continue next
			}
		}
		return s.kind
	}
	return ""
}
