package view

import (
	"html"
	"regexp"
	"strings"

	"github.com/a-h/templ"
)

// Text is a Markdown file as HTML. It is made from our own manual, yet everything
// in it is escaped.
type Text struct {
	Title string
	HTML  string
}

func (t Text) component() templ.Component { return templ.Raw(t.HTML) }

// Markdown reads what the manual uses of Markdown: headings, paragraphs, lists of
// one level, code, quotes, tables, emphasis and links. Anything else is shown as
// it is written.
func Markdown(text string) Text {
	var m markdown
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		m.line(line)
	}
	m.close()
	return Text{Title: m.title, HTML: m.out.String()}
}

type markdown struct {
	out   strings.Builder
	title string
	block string // the element that is open: p, ul, ol, pre, blockquote, table
	rows  int    // of the table
}

var (
	heading  = regexp.MustCompile(`^(#{1,4}) +(.+?)\s*#*$`)
	bullet   = regexp.MustCompile(`^\s*[-*] +(.*)$`)
	numbered = regexp.MustCompile(`^\s*\d+[.)] +(.*)$`)
	ruler    = regexp.MustCompile(`^\|?[\s:|-]+\|[\s:|-]*$`)
)

func (m *markdown) line(line string) {
	if m.block == "pre" {
		if strings.HasPrefix(line, "```") {
			m.close()
			return
		}
		m.out.WriteString(html.EscapeString(line) + "\n")
		return
	}
	plain := strings.TrimSpace(line)
	switch h := heading.FindStringSubmatch(plain); {
	case strings.HasPrefix(plain, "```"):
		m.open("pre", "<pre tabindex=\"0\"><code>")
	case plain == "":
		m.close()
	case h != nil:
		m.close()
		tag := "h" + string(rune('0'+len(h[1])))
		if len(h[1]) == 1 && m.title == "" {
			m.title = h[2]
		}
		m.out.WriteString("<" + tag + " id=\"" + slug(strings.ToLower(h[2])) + "\">" + inline(h[2]) + "</" + tag + ">\n")
	case strings.HasPrefix(plain, "|"):
		m.row(plain)
	case strings.HasPrefix(plain, ">"):
		m.open("blockquote", "<blockquote>")
		m.out.WriteString(inline(strings.TrimSpace(plain[1:])) + "\n")
	case bullet.MatchString(line):
		m.open("ul", "<ul>")
		m.out.WriteString("<li>" + inline(bullet.FindStringSubmatch(line)[1]) + "\n")
	case numbered.MatchString(line):
		m.open("ol", "<ol>")
		m.out.WriteString("<li>" + inline(numbered.FindStringSubmatch(line)[1]) + "\n")
	default:
		if m.block != "ul" && m.block != "ol" { // else it goes on with the item
			m.open("p", "<p>")
		}
		m.out.WriteString(inline(plain) + "\n")
	}
}

func (m *markdown) row(line string) {
	if m.block == "table" && m.rows == 1 && ruler.MatchString(line) {
		return
	}
	m.open("table", "<div class=\"scroll\" tabindex=\"0\"><table>")
	tag := "td"
	if m.rows == 0 {
		tag = "th"
	}
	m.rows++
	m.out.WriteString("<tr>")
	for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		m.out.WriteString("<" + tag + ">" + inline(strings.TrimSpace(cell)) + "</" + tag + ">")
	}
	m.out.WriteString("</tr>\n")
}

func (m *markdown) open(block, tag string) {
	if m.block == block {
		return
	}
	m.close()
	m.block = block
	m.out.WriteString(tag)
}

func (m *markdown) close() {
	switch m.block {
	case "pre":
		m.out.WriteString("</code></pre>\n")
	case "table":
		m.out.WriteString("</table></div>\n")
	case "":
	default:
		m.out.WriteString("</" + m.block + ">\n")
	}
	m.block, m.rows = "", 0
}

var (
	codeSpan = regexp.MustCompile("`([^`]+)`")
	strong   = regexp.MustCompile(`\*\*([^*]+)\*\*`)
	emphasis = regexp.MustCompile(`(^|[\s(])\*([^*\s][^*]*)\*`)
	link     = regexp.MustCompile(`\[([^\]]+)\]\(([^)\s]+)\)`)
)

// inline prints the text of a line. Code is left alone by everything else.
func inline(text string) string {
	var b strings.Builder
	at := 0
	for _, m := range codeSpan.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(prose(text[at:m[0]]) + "<code>" + html.EscapeString(text[m[2]:m[3]]) + "</code>")
		at = m[1]
	}
	b.WriteString(prose(text[at:]))
	return b.String()
}

func prose(text string) string {
	text = html.EscapeString(text)
	text = strong.ReplaceAllString(text, "<strong>$1</strong>")
	text = emphasis.ReplaceAllString(text, "$1<em>$2</em>")
	return link.ReplaceAllStringFunc(text, func(whole string) string {
		m := link.FindStringSubmatch(whole)
		target := m[2]
		switch {
		case strings.HasPrefix(target, "https://"), strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "//"), strings.HasPrefix(target, "#"):
		case strings.Contains(target, ":"), strings.HasPrefix(target, "//"):
			return m[1]
		default: // another page of the manual
			target = "/help/" + strings.TrimPrefix(strings.Replace(target, ".md", "", 1), "./")
		}
		return `<a href="` + target + `">` + m[1] + `</a>`
	})
}
