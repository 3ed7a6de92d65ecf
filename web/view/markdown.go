package view

import (
	"bytes"
	"html"
	"net/url"
	"regexp"
	"strings"

	"github.com/a-h/templ"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	tables "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// Text is a Markdown file as HTML, and as plain words for the search. It is made
// from our own manual; raw HTML in it is left out all the same.
type Text struct {
	Title    string
	HTML     string
	Sections []Section
}

func (t Text) component() templ.Component { return templ.Raw(t.HTML) }

// Markdown reads a file of the manual: CommonMark with tables. Its title is the first
// heading of the first level.
func Markdown(source string) Text {
	content := []byte(source)
	document := markdown.Parser().Parse(text.NewReader(content))
	t := Text{Sections: sectionsOf(document, content)}
	for n := document.FirstChild(); n != nil && t.Title == ""; n = n.NextSibling() {
		if h, ok := n.(*ast.Heading); ok && h.Level == 1 {
			t.Title = wordsOf(h, content)
		}
	}
	var out bytes.Buffer
	if err := markdown.Renderer().Render(&out, content, document); err != nil {
		// Nothing is written to but memory; what was not foreseen is shown as it is.
		return Text{Title: t.Title, HTML: "<pre>" + html.EscapeString(source) + "</pre>", Sections: t.Sections}
	}
	t.HTML = out.String()
	return t
}

var markdown = goldmark.New(
	goldmark.WithExtensions(extension.Table),
	goldmark.WithParserOptions(parser.WithAutoHeadingID(), parser.WithASTTransformers(util.Prioritized(manualLinks{}, 100))),
	goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(scrollable{}, 100))),
)

// manualLinks leads links to other files of the manual to their pages, and takes
// away those that lead anywhere but to a page of ours or to an https address.
type manualLinks struct{}

func (manualLinks) Transform(document *ast.Document, reader text.Reader, _ parser.Context) {
	var bad []ast.Node
	walk(document, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.Link:
			target, ok := manualLink(string(n.Destination))
			if n.Destination = []byte(target); !ok {
				bad = append(bad, n)
			}
		case *ast.Image:
			bad = append(bad, n)
		case *ast.AutoLink:
			if _, ok := manualLink(string(n.URL(reader.Source()))); !ok {
				bad = append(bad, n)
			}
		}
	})
	for _, n := range bad {
		parent := n.Parent()
		for c := n.FirstChild(); c != nil; c = n.FirstChild() { // their text stays
			parent.InsertBefore(parent, n, c)
		}
		parent.RemoveChild(parent, n)
	}
}

var manualFile = regexp.MustCompile(`^(?:\./)?([\w-]+)\.md(#[\w-]*)?$`)

func manualLink(target string) (string, bool) {
	if m := manualFile.FindStringSubmatch(target); m != nil {
		return "/help/" + m[1] + m[2], true
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", false
	}
	inside := u.Scheme == "" && u.Host == "" && (strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "//") && !strings.HasPrefix(target, `/\`) || strings.HasPrefix(target, "#"))
	return target, inside || u.Scheme == "https" && u.Host != ""
}

// scrollable prints what may be wider than the page so that a keyboard can scroll it.
type scrollable struct{}

func (scrollable) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(tables.KindTable, func(w util.BufWriter, _ []byte, _ ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			_, err := w.WriteString("<div class=\"scroll\" tabindex=\"0\"><table>\n")
			return ast.WalkContinue, err
		}
		_, err := w.WriteString("</table></div>\n")
		return ast.WalkContinue, err
	})
	code := func(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		_, err := w.WriteString("<pre tabindex=\"0\"><code>" + html.EscapeString(string(n.Lines().Value(source))) + "</code></pre>\n")
		return ast.WalkSkipChildren, err
	}
	r.Register(ast.KindFencedCodeBlock, code)
	r.Register(ast.KindCodeBlock, code)
}

// walk calls visit for a node and all below it.
func walk(n ast.Node, visit func(ast.Node)) {
	visit(n)
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		walk(c, visit)
	}
}
