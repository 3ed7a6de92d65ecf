// Licenses prints the license texts of everything third-party that is linked into the
// programs of Riparo, on every system they are built for, as the modules carry them.
// It is run in the folder of go.mod:
//
//	licenses > appliance/licenses/licenses.txt
//
// A text stands below one line for each place it comes from, "§ MODULE VERSION FILE".
// Texts that are equal stand there once.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// systems are those that programs are built for, as build.sh release does.
var systems = []string{"linux/amd64", "linux/arm64", "windows/amd64"}

// mark begins the line that tells where a text comes from.
const mark = "§ "

func main() {
	out := bufio.NewWriter(os.Stdout)
	if err := errors.Join(run(out), out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(w io.Writer) error {
	linked := map[module]map[string]bool{}
	for _, system := range systems {
		if err := list(system, linked); err != nil {
			return err
		}
	}
	if len(linked) < 2 {
		return errors.New("nothing third-party is linked: it was run in the wrong folder")
	}
	of := map[string][]string{} // by text, where it comes from
	for m, folders := range linked {
		found, err := texts(m.dir, folders)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("%s %s carries no license text in %s", m.path, m.version, m.dir)
		}
		for name, text := range found {
			of[text] = append(of[text], strings.Join([]string{m.path, cmp.Or(m.version, "-"), name}, " "))
		}
	}
	return print(w, of)
}

// module is one whose packages are linked. The toolchain's own has no version: it is
// that of whoever builds.
type module struct{ path, version, dir string }

// list adds what is linked on a system, and from which folders of it.
func list(system string, linked map[module]map[string]bool) error {
	name, machine, _ := strings.Cut(system, "/")
	c := exec.Command("go", "list", "-deps", "-json=Dir,ImportPath,Standard,Module", "./appliance/cmd/...")
	c.Env = append(os.Environ(), "GOOS="+name, "GOARCH="+machine, "CGO_ENABLED=0")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("ask go what is linked for %s: %w", system, err)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("ask go where it is: %w", err)
	}
	toolchain := module{path: "go", dir: strings.TrimSpace(string(root))}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir, ImportPath string
			Standard        bool
			Module          *struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read what go says: %w", err)
		}
		m := toolchain
		switch {
		case p.Standard:
			p.Dir = toolchain.dir
		case p.Module == nil || p.Module.Main:
			continue
		default:
			m = module{p.Module.Path, p.Module.Version, p.Module.Dir}
		}
		if linked[m] == nil {
			linked[m] = map[string]bool{}
		}
		linked[m][p.Dir] = true
	}
}

// license is the name of a file that says what may be done with the code around it.
var license = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright|unlicense)([.-](txt|md|rst|mit|apache|bsd|apache2?\.?0?))?$`)

// texts gives what stands in the folders and above them, up to the module's own.
func texts(root string, folders map[string]bool) (map[string]string, error) {
	found := map[string]string{}
	seen := map[string]bool{}
	for folder := range folders {
		for ; !seen[folder] && within(root, folder); folder = filepath.Dir(folder) {
			seen[folder] = true
			entries, err := os.ReadDir(folder)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if !e.Type().IsRegular() || !license.MatchString(e.Name()) {
					continue
				}
				path := filepath.Join(folder, e.Name())
				text, err := os.ReadFile(path)
				if err != nil {
					return nil, err
				}
				name, err := filepath.Rel(root, path)
				if err != nil {
					return nil, err
				}
				found[filepath.ToSlash(name)] = plain(string(text))
			}
		}
	}
	return found, nil
}

func within(root, folder string) bool {
	return folder == root || strings.HasPrefix(folder, root+string(filepath.Separator))
}

// plain leaves out what nobody sees: ends of lines, and spaces before them.
func plain(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t\r\f")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n") + "\n"
}

// print writes the texts, those of the first module first.
func print(w io.Writer, of map[string][]string) error {
	for _, places := range of {
		slices.Sort(places)
	}
	order := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return slices.Compare(of[a], of[b]) })
	for _, text := range order {
		if strings.Contains("\n"+text, "\n"+mark) {
			return fmt.Errorf("the text of %s has a line that begins with %q", of[text][0], mark)
		}
		for _, place := range of[text] {
			fmt.Fprintln(w, mark+place)
		}
		fmt.Fprintf(w, "\n%s\n", text) // a failure shows when it is flushed
	}
	return nil
}
