package view

import (
	"strings"
	"testing"
)

func TestMarkdownOfTheManual(t *testing.T) {
	for text, want := range map[string]string{
		"# Title\n\nA **b** and *c* and `d<e>`.":         "<h1 id=\"title\">Title</h1>\n<p>A <strong>b</strong> and <em>c</em> and <code>d&lt;e&gt;</code>.</p>\n",
		"```sh\na < b\n**c**\n```":                       "<pre tabindex=\"0\"><code>a &lt; b\n**c**\n</code></pre>\n",
		"[a](other.md#x) [b](https://e.org/) [c](/jobs)": "<p><a href=\"/help/other#x\">a</a> <a href=\"https://e.org/\">b</a> <a href=\"/jobs\">c</a></p>\n",
		"[a](javascript:x) [b](//e.org) [*c*](data:x) d": "<p>a b <em>c</em> d</p>\n",
		"<javascript:x> <https://e.org> ![x](/y)":        "<p> <a href=\"https://e.org\">https://e.org</a> x</p>\n",
		"```\nnever closed":                              "<pre tabindex=\"0\"><code>never closed\n</code></pre>\n",
	} {
		if got := Markdown(text).HTML; got != want {
			t.Errorf("%q\ngot  %q\nwant %q", text, got, want)
		}
	}
	table := Markdown("| a | b |\n|---|:--|\n| 1 | `2` |").HTML
	if !strings.HasPrefix(table, "<div class=\"scroll\" tabindex=\"0\"><table>") || !strings.Contains(table, "<code>2</code>") || !strings.Contains(table, "</table></div>") {
		t.Errorf("a table became %q", table)
	}
	if got := Markdown("## no\n# The *title*\n# later").Title; got != "The title" {
		t.Errorf("the title is %q", got)
	}
	if got := Markdown("a <script>alert(1)</script> <b onclick=x>b</b>").HTML; strings.Contains(got, "<script") || strings.Contains(got, "onclick") {
		t.Errorf("raw HTML became %q", got)
	}
}

func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{"# a\n- b\n```\nc", "[x](y\"onclick=z)", "| a |\n|-|\n", "**a*b**`c`<d>", "![a](b \"c\")", "<data:x>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		html := strings.ToLower(Markdown(text).HTML)
		for _, bad := range []string{"<script", "<img", "<iframe", "href=\"javascript:", "href=\"data:", "href=\"//"} {
			if strings.Contains(html, bad) {
				t.Errorf("%q became %q", text, html)
			}
		}
	})
}
