package appliance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The house: which room stands on which floor. A room is a folder; the packages
// inside it may know each other. A package imports only rooms on lower floors,
// its own room, and the neighbors listed below. A package without a room is a
// mistake: give it one here, with a reason, or put it where it belongs.
var floors = []room{
	// Alone: only the folder itself, because other rooms stand inside it.
	{path: "replication", floor: 0, alone: true},

	{path: "replication/lifecycle", floor: 1},
	{path: "replication/report", floor: 1}, // what pages show; imports the words only
	{path: "replication/vfs", floor: 1},
	{path: "replication/planted", floor: 1}, // for the tests of all rooms
	{path: "replication/proof", floor: 1},   // likewise
	{path: "replication/nbd", floor: 1},
	{path: "replication/image", floor: 1, neighbors: []string{
		"replication/nbd",   // formats of others are written by their tool, which reads over NBD
		"replication/vfs"}}, // images are read and written around the page cache
	{path: "replication/vault", floor: 1, neighbors: []string{
		"replication/vfs"}}, // all files are reached through the seam
	{path: "replication/keyring", floor: 1}, // master keys, as the vault asks for them
	{path: "replication/mobility", floor: 1},
	{path: "replication/processserver", floor: 1, neighbors: []string{
		"replication/vfs"}}, // memory that disks are read into fastest
	{path: "replication/transport", floor: 1},
	{path: "replication/mastertarget", floor: 1, neighbors: []string{
		"replication/vault", "replication/nbd"}}, // it offers the vault's points as NBD disks
	{path: "replication/resync", floor: 1, neighbors: []string{
		"replication/vfs"}}, // the same
	{path: "replication/noise", floor: 1}, // what points are made of says whether a disk is being encrypted
	{path: "replication/sinktest", floor: 1},
	{path: "replication/sim", floor: 1, neighbors: []string{
		"replication/vfs", "replication/vault", "replication/processserver", "replication/resync",
		"replication/transport", "replication/mastertarget", "replication/mobility"}}, // the whole walk, in one seeded world
	{path: "hypervisor", floor: 1, alone: true},

	{path: "hypervisor/providertest", floor: 2},
	{path: "hypervisor/kvm", floor: 2},
	{path: "hypervisor/vmware", floor: 2},
	{path: "hypervisor/hyperv", floor: 2},
	{path: "hypervisor/vmm", floor: 2},
	{path: "hypervisor/physical", floor: 2},
	{path: "hypervisor/azure", floor: 2},
	{path: "hypervisor/aws", floor: 2},
	{path: "hypervisor/san", floor: 2},
	{path: "hypervisor/lab", floor: 2},
	{path: "store", floor: 2},

	{path: "appliance/jobs", floor: 3},
	{path: "web", floor: 3},

	{path: "appliance/discovery", floor: 4},
	{path: "appliance/backup", floor: 4}, // the appliance's own state, saved and brought back
	{path: "appliance/audit", floor: 4},
	{path: "appliance/certificate", floor: 4},
	{path: "appliance/setup", floor: 4}, // probes and looks of the first run
	{path: "appliance/identity", floor: 4},
	{path: "appliance/notify", floor: 4},
	{path: "appliance/protection", floor: 4, neighbors: []string{
		"appliance/discovery"}}, // it asks for the capabilities of a site
	{path: "appliance/recovery", floor: 4, neighbors: []string{
		"appliance/discovery", "appliance/protection"}}, // a failover holds and resumes protection

	{path: "appliance", floor: 5, alone: true},
	{path: "appliance/demo", floor: 5, neighbors: []string{
		"appliance"}}, // it plays its story on a whole appliance
	{path: "appliance/docs", floor: 0},     // the manual: text, imports nothing of ours
	{path: "appliance/licenses", floor: 0}, // of what is linked: text likewise
	{path: "appliance/cmd/riparo", floor: 6},
	{path: "appliance/cmd/riparo-mobility", floor: 6},
}

type room struct {
	path      string
	floor     int
	alone     bool
	neighbors []string
}

// meetings that never happen, at any depth of import.
var meetings = []struct{ who, never, why string }{
	{"appliance/cmd/riparo-mobility", "go.etcd.io/bbolt", "the agent keeps no database"},
	{"appliance/cmd/riparo-mobility", "net/http", "the agent serves nothing, and net/http brings a server"},
	{"appliance/cmd/riparo-mobility", "riparo/store", "the agent knows nothing of the appliance's state"},
	{"appliance/cmd/riparo-mobility", "riparo/web", "the agent has no console"},
	{"replication/mobility", "go.etcd.io/bbolt", "the agent keeps no database"},
	{"replication/mobility", "net/http", "the agent serves nothing, and net/http brings a server"},
	{"replication/mobility", "riparo/store", "the agent knows nothing of the appliance's state"},
	{"replication/mobility", "riparo/web", "the agent has no console"},
	{"web", "riparo/appliance", "the console declares what it needs and is handed it"},
}

const (
	module = "riparo"
	// longestFile, in lines: past it a file hides a second noun.
	longestFile = 600
	// highestTested is the floor of the verbs, up to which any test may reach.
	highestTested = 4
)

// topLevel is all that stands at the top of the house beside dot-entries, and
// dist, which build.sh makes.
var topLevel = []string{"README.md", "appliance", "build.sh", "dist", "go.mod", "go.sum", "hypervisor", "replication", "store", "web"}

var emptyWords = []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "shared"}

// leftover finds notes that wait for nobody. One with a trigger, as in
// "(when Go 1.27 is out): …" behind the word, is a plan and stays.
var leftover = regexp.MustCompile(`\b(` + `TO` + `DO\b([^(]|\((?:[^w]|w[^h])|$)|FIX` + `ME\b|XX` + `X\b|HA` + `CK\b)`)

// house is what the rules look at.
type house struct {
	packages []pkg
	top      []string
	files    map[string]string // path to content, of text files
}

// pkg is what `go list` tells of a package.
type pkg struct {
	ImportPath   string
	Doc          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// name is the path inside the module.
func (p pkg) name() string { return inside(p.ImportPath) }

func inside(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

func ours(importPath string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

func within(name, folder string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}

func roomOf(name string) (room, bool) {
	var found room
	for _, r := range floors {
		if (name == r.path || !r.alone && within(name, r.path)) && len(r.path) > len(found.path) {
			found = r
		}
	}
	return found, found.path != ""
}

// judge gives every breach of the rules, in a fixed order.
func judge(h house) []string {
	var breaches []string
	complain := func(format string, args ...any) { breaches = append(breaches, fmt.Sprintf(format, args...)) }
	for _, p := range h.packages {
		judgePackage(p, complain)
	}
	for _, name := range h.top {
		if !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			complain("top level: %s does not belong there", name)
		}
	}
	names := make([]string, 0, len(h.files))
	for name := range h.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		judgeFile(name, h.files[name], complain)
	}
	return breaches
}

func judgePackage(p pkg, complain func(string, ...any)) {
	name := p.name()
	for element := range strings.SplitSeq(name, "/") {
		if slices.Contains(emptyWords, element) {
			complain("%s: %q says nothing about what lives there", name, element)
		}
	}
	if len(p.GoFiles) > 0 {
		if p.Doc == "" {
			complain("%s: no package comment", name)
		}
		if !slices.Contains(p.GoFiles, "doc.go") {
			complain("%s: no doc.go", name)
		}
	}
	own, ok := roomOf(name)
	if !ok {
		complain("%s: stands on no floor", name)
		return
	}
	for _, imported := range p.Imports {
		if name == "replication" && strings.Contains(imported, ".") {
			complain("replication imports %s: the words import the standard library only", imported)
		}
		if !ours(imported) {
			continue
		}
		other, ok := roomOf(inside(imported))
		if ok && other.path != own.path && other.floor >= own.floor && !slices.Contains(own.neighbors, other.path) {
			complain("%s (floor %d) imports %s (floor %d)", name, own.floor, inside(imported), other.floor)
		}
	}
	// A test may meet the real thing where the package knows an interface only. What
	// needs the whole appliance is tested there.
	for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
		if !ours(imported) {
			continue
		}
		if other, ok := roomOf(inside(imported)); ok && other.path != own.path && other.floor > max(own.floor, highestTested) {
			complain("the tests of %s (floor %d) import %s (floor %d)", name, own.floor, inside(imported), other.floor)
		}
	}
	for _, m := range meetings {
		if !within(name, m.who) {
			continue
		}
		for _, dep := range p.Deps {
			if within(dep, m.never) {
				complain("%s meets %s: %s", name, dep, m.why)
			}
		}
	}
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func judgeFile(name, content string, complain func(string, ...any)) {
	if generated.MatchString(content) {
		return
	}
	lines := strings.Count(content, "\n")
	if lines > longestFile && path.Ext(name) == ".go" {
		complain("%s: %d lines, at most %d: look for the second noun", name, lines, longestFile)
	}
	for i, line := range strings.Split(content, "\n") {
		if leftover.MatchString(line) {
			complain("%s:%d: a leftover without a trigger: %s", name, i+1, strings.TrimSpace(line))
		}
	}
}

func TestTheHouseStandsAsDesigned(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	h := house{files: map[string]string{}}
	for _, system := range []string{"linux", "windows"} {
		h.packages = append(h.packages, list(t, root, system)...)
	}
	if len(h.packages) < 20 {
		t.Fatalf("go list found %d packages: the test looks at the wrong place", len(h.packages))
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		h.top = append(h.top, e.Name())
	}
	if err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file of another test, gone meanwhile
		}
		if err != nil {
			return err
		}
		if e.IsDir() {
			if e.Name() == "dist" || e.Name() == ".git" || e.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		switch filepath.Ext(name) {
		case ".go", ".templ", ".sh", ".css", ".toml":
		default:
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		h.files[filepath.ToSlash(relative)] = string(content)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, breach := range judge(h) {
		if !told[breach] { // once, not once per system
			told[breach] = true
			t.Error(breach)
		}
	}
}

// list asks the go command. A package that does not compile is listed too; the
// compiler complains of it elsewhere.
func list(t *testing.T, root, system string) []pkg {
	t.Helper()
	c := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Doc,GoFiles,Imports,TestImports,XTestImports,Deps", "./...")
	c.Dir = root
	c.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list for %s: %v", system, err)
	}
	var packages []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list for %s: %v", system, err)
		}
		packages = append(packages, p)
	}
}

func TestEveryRuleOfTheHouseCanBeBroken(t *testing.T) {
	good := func(path string) pkg {
		return pkg{ImportPath: path, Doc: "Package x is documented.", GoFiles: []string{"doc.go"}}
	}
	with := func(path string, change func(*pkg)) house {
		p := good(path)
		change(&p)
		return house{packages: []pkg{p}}
	}
	imports := func(path string, imported ...string) house {
		return with(path, func(p *pkg) { p.Imports = imported })
	}
	deps := func(path string, deps ...string) house { return with(path, func(p *pkg) { p.Deps = deps }) }
	file := func(name, content string) house { return house{files: map[string]string{name: content}} }

	tests := []struct {
		name  string
		house house
		want  string // part of the one complaint; empty when the house is in order
	}{
		{"a package in order", imports("riparo/replication/vault", "riparo/replication", "riparo/replication/vfs", "os"), ""},
		{"the words import a library", imports("riparo/replication", "golang.org/x/sync/errgroup"), "standard library only"},
		{"a stage imports a higher floor", imports("riparo/replication/vault", "riparo/store"), "imports store (floor 2)"},
		{"a stage imports another", imports("riparo/replication/processserver", "riparo/replication/vault"), "imports replication/vault (floor 1)"},
		{"one kind of place knows another", imports("riparo/hypervisor/kvm", "riparo/hypervisor/lab"), "imports hypervisor/lab"},
		{"a kind of place knows its own parts", imports("riparo/hypervisor/kvm", "riparo/hypervisor/kvm/qmp", "riparo/replication/nbd"), ""},
		{"a part of one kind knows another kind", imports("riparo/hypervisor/kvm/qmp", "riparo/hypervisor/vmware"), "imports hypervisor/vmware"},
		{"the words of places know a kind", imports("riparo/hypervisor", "riparo/hypervisor/kvm"), "imports hypervisor/kvm"},
		{"the console reaches for the appliance", imports("riparo/web", "riparo/appliance/jobs"), "imports appliance/jobs"},
		{"the console reaches it through others", deps("riparo/web/view", "riparo/appliance/protection"), "meets riparo/appliance/protection"},
		{"a verb imports the composition root", imports("riparo/appliance/recovery", "riparo/appliance"), "imports appliance (floor 5)"},
		{"protection reaches for recovery", imports("riparo/appliance/protection", "riparo/appliance/recovery"), "imports appliance/recovery"},
		{"tests use a neighbor and a verb", with("riparo/web", func(p *pkg) { p.XTestImports = []string{"riparo/appliance/jobs", "riparo/appliance/identity"} }), ""},
		{"tests use the whole appliance", with("riparo/web", func(p *pkg) { p.TestImports = []string{"riparo/appliance"} }), "the tests of web"},
		{"tests use the demo", with("riparo/hypervisor/lab", func(p *pkg) { p.XTestImports = []string{"riparo/appliance/demo"} }), "the tests of hypervisor/lab"},
		{"the agent meets a database", deps("riparo/appliance/cmd/riparo-mobility", "go.etcd.io/bbolt"), "meets go.etcd.io/bbolt"},
		{"the agent meets a web server", deps("riparo/replication/mobility", "net/http"), "meets net/http"},
		{"the agent meets a part of the console", deps("riparo/appliance/cmd/riparo-mobility", "riparo/web/asset"), "meets riparo/web/asset"},
		{"the daemon may", deps("riparo/appliance/cmd/riparo", "net/http", "go.etcd.io/bbolt", "riparo/web"), ""},
		{"no package comment", with("riparo/store", func(p *pkg) { p.Doc = "" }), "no package comment"},
		{"no doc.go", with("riparo/store", func(p *pkg) { p.GoFiles = []string{"store.go"} }), "no doc.go"},
		{"only tests need no doc.go", with("riparo/store", func(p *pkg) { p.GoFiles, p.Doc = nil, "" }), ""},
		{"a package on no floor", house{packages: []pkg{good("riparo/replication/telepathy")}}, "stands on no floor"},
		{"a word that says nothing", house{packages: []pkg{good("riparo/store/utils")}}, `"utils" says nothing`},
		{"a stranger at the top", house{top: []string{"Makefile"}}, "Makefile does not belong"},
		{"the top as designed", house{top: append([]string{".git", ".ci"}, topLevel...)}, ""},
		{"a long file", file("a.go", strings.Repeat("\n", longestFile+1)), "601 lines"},
		{"a long generated file", file("a_templ.go", "// Code generated by templ - DO NOT EDIT.\n"+strings.Repeat("\n", longestFile)), ""},
		{"a long style sheet", file("a.css", strings.Repeat("\n", longestFile+1)), ""},
		{"a leftover", file("a.go", "// TO"+"DO: later"), "a.go:1: a leftover"},
		{"a leftover with a name", file("a.go", "\n// TO"+"DO(anna): later"), "a.go:2: a leftover"},
		{"a leftover at the end of a line", file("a.sh", "# TO"+"DO"), "a leftover"},
		{"a plan with a trigger", file("a.go", "// TO"+"DO(when Go 1.27 is out): use it"), ""},
		{"another leftover", file("a.templ", "// FIX"+"ME"), "a leftover"},
		{"a word that only sounds like one", file("a.go", "mastodon, HACKNEY, XXXL"), ""},
	}
	for _, test := range tests {
		got := judge(test.house)
		switch {
		case test.want == "" && len(got) > 0:
			t.Errorf("%s: got %q, want no complaint", test.name, got)
		case test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)):
			t.Errorf("%s: got %q, want one complaint with %q", test.name, got, test.want)
		}
	}
}

func TestEveryRoomIsNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range floors {
		if seen[r.path] {
			t.Errorf("%s stands on two floors", r.path)
		}
		seen[r.path] = true
	}
	for _, r := range floors {
		for _, n := range r.neighbors {
			if !seen[n] {
				t.Errorf("%s: its neighbor %s does not exist", r.path, n)
			} else if other, _ := roomOf(n); other.floor != r.floor {
				t.Errorf("%s: %s is on floor %d, not a neighbor", r.path, n, other.floor)
			}
		}
	}
}
