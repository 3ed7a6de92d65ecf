package planted

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// Bug is a mistake that somebody might make.
type Bug struct {
	Name string // the mistake as a fact: "acknowledge before fsync"
	File string // as seen from the folder of the tests, or from the module when it has a slash
	Code string // a part of one function, which occurs once in the file
	Bug  string // what takes its place
	Test string // that must find it; empty: that of the list
}

// twin is a function with a bug in it, ready to be appended to its file.
type twin struct {
	bug    Bug
	number int // by which it is asked for
	body   string
	enter  int    // where in the source the switch goes, behind the brace
	call   string // what the switch does
}

// plant gives the file with all of its bugs behind switches. numbers are what the
// bugs are asked for by.
func plant(name, source string, bugs []Bug, numbers []int) (string, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	var twins []twin
	for i, b := range bugs {
		t, err := newTwin(files, file, source, b, numbers[i])
		if err != nil {
			return "", fmt.Errorf("planted bug %q in %s: %w", b.Name, name, err)
		}
		twins = append(twins, t)
	}
	slices.SortStableFunc(twins, func(a, b twin) int { return b.enter - a.enter })
	for i := 0; i < len(twins); {
		at := twins[i].enter
		text := "\nswitch plantedSwitch {"
		for ; i < len(twins) && twins[i].enter == at; i++ {
			text += fmt.Sprintf("\ncase %d:\n%s", twins[i].number, twins[i].call)
		}
		source = source[:at] + text + "\n}\n" + source[at:]
	}
	for _, t := range twins {
		source += "\n" + t.body + "\n"
	}
	return addImports(source, file, bugs), nil
}

// newTwin finds the function that a bug lies in and copies it.
func newTwin(files *token.FileSet, file *ast.File, source string, b Bug, number int) (twin, error) {
	if n := strings.Count(source, b.Code); n != 1 {
		return twin{}, fmt.Errorf("its place occurs %d times, want once", n)
	}
	place := strings.Index(source, b.Code)
	at := func(p token.Pos) int { return files.Position(p).Offset }
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Body == nil || at(f.Pos()) > place || at(f.End()) < place+len(b.Code) {
			continue
		}
		call, err := callOf(f, number)
		if err != nil {
			return twin{}, err
		}
		start, name := at(f.Pos()), at(f.Name.End())
		body := source[start:name] + suffix(number) + source[name:place] + b.Bug + source[place+len(b.Code):at(f.End())]
		return twin{bug: b, number: number, body: body, enter: at(f.Body.Lbrace) + 1, call: call}, nil
	}
	return twin{}, fmt.Errorf("its place lies inside of no function")
}

func suffix(number int) string { return fmt.Sprintf("Planted%d", number) }

// callOf is the statement that calls the twin of f with what f was called with.
func callOf(f *ast.FuncDecl, number int) (string, error) {
	name := f.Name.Name + suffix(number)
	if f.Recv != nil {
		if len(f.Recv.List[0].Names) == 0 {
			return "", fmt.Errorf("the receiver of %s has no name", f.Name.Name)
		}
		name = f.Recv.List[0].Names[0].Name + "." + name
	}
	var arguments []string
	for _, p := range f.Type.Params.List {
		if len(p.Names) == 0 {
			return "", fmt.Errorf("a parameter of %s has no name", f.Name.Name)
		}
		for _, n := range p.Names {
			if n.Name == "_" {
				return "", fmt.Errorf("a parameter of %s has no name", f.Name.Name)
			}
			argument := n.Name
			if _, many := p.Type.(*ast.Ellipsis); many {
				argument += "..."
			}
			arguments = append(arguments, argument)
		}
	}
	call := name + "(" + strings.Join(arguments, ", ") + ")"
	if f.Type.Results == nil {
		return call + "\nreturn", nil
	}
	return "return " + call, nil
}

// addImports adds the packages that only the bugs use.
func addImports(source string, file *ast.File, bugs []Bug) string {
	for _, path := range []string{"bytes", "errors", "maps", "slices", "time"} {
		used := slices.ContainsFunc(bugs, func(b Bug) bool { return strings.Contains(b.Bug, path+".") })
		there := slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
		if used && !there {
			package_ := "package " + file.Name.Name + "\n"
			source = strings.Replace(source, package_, package_+"\nimport \""+path+"\"\n", 1)
		}
	}
	return source
}
