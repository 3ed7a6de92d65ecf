package view

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// told is a sentence of the daemon as its source has it.
type toldSentence struct {
	place  string
	field  string // Cause, Effect, Action, Text
	code   string // of the problem or event
	sample string // with its blanks filled
}

// rooms are the packages whose sentences reach people.
var rooms = []string{"../../appliance", "../../replication/vault", "../../replication/keyring", "../../hypervisor", "../../web"}

// elsewhere are places whose sentences no console shows.
// The client of the API is the command line's.
var elsewhere = []string{"appliance/cmd", "appliance/demo", "web/api/client.go"}

// together is a sentence of two parts that only run time knows. Those that there are
// stand in TestWhatTheDaemonSaysIsToldInItalian.
const together = "X has X"

// TestNoSentenceIsHalfTold: a pattern of hardly more than a blank fits sentences that
// nobody has translated, and would tell their end in one language and the rest in
// the other.
func TestNoSentenceIsHalfTold(t *testing.T) {
	w := catalog(t).Words("it", nil)
	for _, text := range []string{"something new was done by anna", "a computer keeps the time by a server"} {
		if got := w.Said(text); got != text {
			t.Errorf("got %q, want it as it was said", got)
		}
	}
	if got, want := w.Said("the proxy was changed by anna"), "il proxy è stato cambiato da anna"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOneWordForTheVault: it is called so in commands and on pages, and "archivio"
// would make people think of archives, which it is not.
func TestOneWordForTheVault(t *testing.T) {
	other := regexp.MustCompile(`(?i)\barchivi[oa]?\b`)
	words, err := catalogs.ReadFile("words.it.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"words.it.toml": words, "told.it.toml": toldItalian} {
		for line := range strings.Lines(string(file)) {
			if other.MatchString(line) {
				t.Errorf("%s: the vault is called vault: %s", name, line)
			}
		}
	}
}

// TestSeveralObstaclesAreToldInItalian: they come joined, and each is a sentence.
func TestSeveralObstaclesAreToldInItalian(t *testing.T) {
	w := catalog(t).Words("it", nil)
	got := w.Said("web01 cannot be protected: disk vda is neither raw nor qcow2: convert it; disk vdb has no image: attach one or remove the disk")
	want := "web01 non si può proteggere: il disco vda non è né raw né qcow2: convertirlo; il disco vdb non ha un'immagine: collegarne una o togliere il disco"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = w.SaidList(`the definition /m/web01.json is not valid: disk vda has the format "vmdk": want raw or qcow2; the machine cannot be used; correct the file`)
	want = "la definizione /m/web01.json non è valida: il disco vda ha il formato vmdk: raw o qcow2; la macchina non si può usare; correggere il file"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWhatTheSourcesSayIsToldInItalian walks the sources of the daemon for every cause,
// effect, remedy, event and request for approval, and asks for each in Italian.
func TestWhatTheSourcesSayIsToldInItalian(t *testing.T) {
	w := catalog(t).Words("it", nil)
	found := 0
	for _, s := range toldIn(t) {
		found++
		if !strings.Contains(s.sample, " ") { // the name of an action, an address
			continue
		}
		if s.sample == together || s.sample == "disk X X" || s.sample == "disk X " || s.sample == "X by X" || // its parts are asked for by themselves
			s.field == "Text" && w.Has("event."+s.code) {
			continue
		}
		if w.Said(s.sample) == s.sample {
			t.Errorf("%s: %s %s %q has no Italian", s.place, s.code, s.field, s.sample)
		}
	}
	if found < 500 {
		t.Errorf("found %d sentences: the search is broken", found)
	}
}

func toldIn(t *testing.T) []toldSentence {
	t.Helper()
	var all []toldSentence
	for _, room := range rooms {
		err := filepath.WalkDir(room, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if slices.ContainsFunc(elsewhere, func(e string) bool { return strings.Contains(filepath.ToSlash(path), e) }) {
				return nil
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			kept := map[string][]ast.Expr{} // what the variables of a function may be
			ast.Inspect(file, func(n ast.Node) bool {
				samples := func(e ast.Expr) []string { return samples(e, kept) }
				say := func(code, field string, e ast.Expr) {
					for _, sample := range samples(e) {
						if wordy.MatchString(sample) {
							all = append(all, toldSentence{set.Position(e.Pos()).String(), field, code, sample})
						}
					}
				}
				switch n := n.(type) {
				case *ast.FuncDecl:
					kept = assigned(n)
					if n.Name.Name == "check" && strings.HasSuffix(path, "kvm/definition.go") || n.Name.Name == "parseNetwork" {
						ast.Inspect(n, func(c ast.Node) bool {
							if c, ok := c.(*ast.CallExpr); ok && callee(c) == "fmt.Errorf" {
								say("", "Obstacle", &ast.CallExpr{Fun: ast.NewIdent("Sprintf"), Args: c.Args})
							}
							return true
						})
					}
					if n.Name.Name == "obstacle" {
						ast.Inspect(n, func(r ast.Node) bool {
							if r, ok := r.(*ast.ReturnStmt); ok {
								say("", "Obstacle", &ast.BinaryExpr{X: &ast.BasicLit{Kind: token.STRING, Value: `"disk X "`, ValuePos: r.Pos()}, Y: r.Results[0]})
							}
							return true
						})
					}
				case *ast.CompositeLit:
					code := ""
					for _, e := range n.Elts {
						if kv, ok := e.(*ast.KeyValueExpr); ok && fmt.Sprint(kv.Key) == "Code" {
							if list := samples(kv.Value); len(list) == 1 {
								code = list[0]
							}
						}
					}
					for _, e := range n.Elts {
						if kv, ok := e.(*ast.KeyValueExpr); ok && slices.Contains([]string{"Cause", "Effect", "Action", "Text", "Question"}, fmt.Sprint(kv.Key)) {
							say(code, fmt.Sprint(kv.Key), kv.Value)
						}
					}
				case *ast.AssignStmt:
					// What keeps a machine from being protected.
					if call, ok := n.Rhs[0].(*ast.CallExpr); ok && callee(call) == "append" && strings.HasSuffix(strings.ToLower(spelledName(n.Lhs[0])), "obstacles") {
						for _, e := range call.Args[1:] {
							say("", "Obstacle", e)
						}
					}
					if n.Tok == token.ADD_ASSIGN {
						break // an addition to what is told by its code
					}
					for i, to := range n.Lhs {
						if s, ok := to.(*ast.SelectorExpr); ok && i < len(n.Rhs) && slices.Contains([]string{"Cause", "Effect", "Action", "Text", "Question"}, s.Sel.Name) {
							say("", s.Sel.Name, n.Rhs[i])
						}
					}
				case *ast.CallExpr:
					switch name := callee(n); {
					case name == "replication.Stopf" && len(n.Args) >= 3:
						say("", "Action", n.Args[1])
						say("", "Cause", &ast.CallExpr{Fun: ast.NewIdent("Sprintf"), Args: n.Args[2:]})
					case name == "approvalEvent":
						say("", "Text", n.Args[3])
					case name == "tell" && len(n.Args) == 4: // of appliance/protection
						say(strings.Join(samples(n.Args[1]), ""), "Text", n.Args[3])
					case name == "i.event": // of appliance/identity
						say(strings.Join(samples(n.Args[2]), ""), "Text", n.Args[3])
					case name == "stop" && len(n.Args) == 3: // of appliance/identity
						say("", "Cause", n.Args[1])
						say("", "Action", n.Args[2])
					case slices.Contains([]string{"wrong", "mildly", "badly"}, name) && len(n.Args) == 2: // of appliance/notify and the checks
						say("", "Cause", n.Args[0])
						say("", "Action", n.Args[1])
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// assigned is what the variables of a function are set to. What is added to one later
// is not followed.
func assigned(f *ast.FuncDecl) map[string][]ast.Expr {
	all := map[string][]ast.Expr{}
	ast.Inspect(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && a.Tok != token.ADD_ASSIGN && len(a.Lhs) == len(a.Rhs) {
			for i, to := range a.Lhs {
				if name, ok := to.(*ast.Ident); ok && name.Name != "_" {
					all[name.Name] = append(all[name.Name], a.Rhs[i])
				}
			}
		}
		return true
	})
	return all
}

// spelledName is a variable or a field.
func spelledName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func callee(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.SelectorExpr:
		return fmt.Sprint(f.X) + "." + f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// wordy is a text with something to translate in it.
var wordy = regexp.MustCompile(`[a-z]{2,}`)

// samples are the sentences that an expression may be, with blanks filled: X for text
// and 7 for numbers. What is put together elsewhere is a blank.
func samples(e ast.Expr, kept map[string][]ast.Expr) []string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return []string{text}
		}
	case *ast.BinaryExpr:
		var all []string
		for _, x := range samples(e.X, kept) {
			for _, y := range samples(e.Y, kept) {
				all = append(all, x+y)
			}
		}
		return all
	case *ast.CallExpr:
		switch name := callee(e); {
		case strings.HasSuffix(name, "Sprintf"):
			var all []string
			for _, form := range samples(e.Args[0], kept) {
				all = append(all, filledForm.ReplaceAllStringFunc(form, func(v string) string {
					switch v[len(v)-1] {
					case '%':
						return "%"
					case 'd':
						return "7"
					case 'q':
						return `"X"`
					}
					return "X"
				}))
			}
			return all
		case name == "cmp.Or" || name == "clip":
			var all []string
			for _, a := range e.Args {
				all = append(all, samples(a, kept)...)
			}
			return all
		}
	case *ast.Ident:
		var all []string
		for _, value := range kept[e.Name] {
			if _, call := value.(*ast.CallExpr); call || slices.Contains([]string{"*ast.BasicLit", "*ast.BinaryExpr"}, fmt.Sprintf("%T", value)) {
				all = append(all, samples(value, nil)...)
			}
		}
		if len(all) > 0 {
			return all
		}
	case *ast.ParenExpr:
		return samples(e.X, kept)
	}
	return []string{"X"}
}

var filledForm = regexp.MustCompile(`%[-+#.0-9]*[a-zA-Z%]`)
