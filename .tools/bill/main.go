// Bill prints the software bill of materials of the programs below a folder, as a
// CycloneDX 1.6 document: every module that was linked into any of them, as the
// programs themselves tell.
//
//	bill VERSION FOLDER
package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// component of CycloneDX 1.6, as much of it as a Go module has.
type component struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl,omitempty"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: bill VERSION FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "bill:", err)
		os.Exit(1)
	}
}

func run(version, folder string) error {
	found := map[string]component{}
	programs := 0
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil // no Go program
		}
		programs++
		add(found, "go", info.GoVersion)
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			add(found, m.Path, m.Version)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if programs == 0 {
		return fmt.Errorf("there is no program below %s", folder)
	}
	parts := make([]component, 0, len(found))
	for _, c := range found {
		parts = append(parts, c)
	}
	slices.SortFunc(parts, func(a, b component) int { return cmp.Compare(a.Name+a.Version, b.Name+b.Version) })
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
		"metadata":   map[string]any{"component": component{Type: "application", Name: "riparo", Version: version}},
		"components": parts,
	})
}

func add(found map[string]component, name, version string) {
	c := component{Type: "library", Name: name, Version: version, PURL: "pkg:golang/" + name + "@" + version}
	if name == "go" {
		c = component{Type: "framework", Name: "Go standard library", Version: version, PURL: "pkg:golang/std@" + version}
	}
	found[name+"@"+version] = c
}
