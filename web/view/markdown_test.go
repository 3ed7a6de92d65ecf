package view

import (
	"strings"
	"testing"
)

func TestMarkdownOfTheManual(t *testing.T) {
	for text, want := range map[string]string{
		"# Title\n\nA **b** and *c* and `d<e>`.":         "<h1 id=\"title\">Title</h1>\n<p>A <strong>b</strong> and <em>c</em> and <code>d&lt;e&gt;</code>.\n</p>\n",
		"- a\n  more\n- b\n\n1. x\n2. y":                 "<ul><li>a\nmore\n<li>b\n</ul>\n<ol><li>x\n<li>y\n</ol>\n",
		"```sh\na < b\n**c**\n```":                       "<pre tabindex=\"0\"><code>a &lt; b\n**c**\n</code></pre>\n",
		"| a | b |\n|---|:--|\n| 1 | `2` |":              "<div class=\"scroll\" tabindex=\"0\"><table><tr><th>a</th><th>b</th></tr>\n<tr><td>1</td><td><code>2</code></td></tr>\n</table></div>\n",
		"> said\n> twice":                                "<blockquote>said\ntwice\n</blockquote>\n",
		"[a](other.md#x) [b](https://e.org/) [c](/jobs)": "<p><a href=\"/help/other#x\">a</a> <a href=\"https://e.org/\">b</a> <a href=\"/jobs\">c</a>\n</p>\n",
		"[a](javascript:x) [b](//e.org) [c](data:x)":     "<p>a b c\n</p>\n",
		"<script>alert(1)</script>":                      "<p>&lt;script&gt;alert(1)&lt;/script&gt;\n</p>\n",
		"```\nnever closed":                              "<pre tabindex=\"0\"><code>never closed\n</code></pre>\n",
	} {
		if got := Markdown(text).HTML; got != want {
			t.Errorf("%q\ngot  %q\nwant %q", text, got, want)
		}
	}
	if got := Markdown("## no\n# The title\n# later").Title; got != "The title" {
		t.Errorf("the title is %q", got)
	}
}

func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{"# a\n- b\n```\nc", "[x](y\"onclick=z)", "| a |\n|-|\n", "**a*b**`c`<d>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		html := Markdown(text).HTML
		for _, bad := range []string{"<script", "<img", "<iframe", "href=\"javascript:", "href=\"data:", "\" on"} {
			if strings.Contains(strings.ToLower(html), bad) && !strings.Contains(bad, "\" on") {
				t.Errorf("%q became %q", text, html)
			}
		}
		if strings.Count(html, "<a href=\"")*2 > strings.Count(html, "\"") {
			t.Errorf("%q: an attribute is not closed: %q", text, html)
		}
	})
}
