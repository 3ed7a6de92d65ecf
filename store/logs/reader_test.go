package logs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// epoch is when the synthetic logs begin.
var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// shelf is a folder of log files and the model of what a reader finds in it.
type shelf struct {
	testing.TB
	dir   string
	lines []Line // as they ought to be read, without positions
}

func newShelf(t testing.TB) *shelf { return &shelf{TB: t, dir: t.TempDir()} }

// write makes a file of n lines, one a second, from number first on.
func (s *shelf) write(name string, first, n int, random *rand.Rand) {
	s.Helper()
	var text bytes.Buffer
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	for i := first; i < first+n; i++ {
		if random.IntN(50) == 0 {
			torn := fmt.Sprintf(`{"time":"2026-11-01T00:00:00Z","level":"INFO","msg":"torn %d`, i)
			text.WriteString(torn + "\n")
			before := time.Time{}
			if len(s.lines) > 0 {
				before = s.lines[len(s.lines)-1].Time
			}
			s.lines = append(s.lines, Line{Time: before, Message: torn, Damaged: true})
			continue
		}
		l := Line{Time: epoch.Add(time.Duration(i) * time.Second), Level: levels[random.IntN(len(levels))], Component: []string{"protection", "jobs", "vault"}[random.IntN(3)],
			Machine: fmt.Sprintf("m-%02d", random.IntN(30)), Name: "", Job: fmt.Sprintf("j-%d", i/97), Message: fmt.Sprintf("line %d says “hello” \\ and \"more\"", i)}
		l.Name = strings.ToUpper(l.Machine)
		fmt.Fprintf(&text, `{"time":%q,"level":%q,"msg":%q,"component":%q,"machine":%q,"name":%q,"job":%q,"sequence":%d}`+"\n",
			l.Time.Format(time.RFC3339Nano), l.Level, l.Message, l.Component, l.Machine, l.Name, l.Job, i)
		s.lines = append(s.lines, l)
	}
	s.put(name, text.Bytes())
}

// put writes a file, compressed when its name says so.
func (s *shelf) put(name string, content []byte) {
	s.Helper()
	if strings.HasSuffix(name, zipped) {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err := z.Write(content)
		if err = errors.Join(err, z.Close()); err != nil {
			s.Fatal(err)
		}
		content = packed.Bytes()
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		s.Fatal(err)
	}
}

// three makes an old compressed file, an old plain one and the active one.
func (s *shelf) three(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	s.write("riparo-2026-11-01T01-00-00.000-size.log.gz", 0, 9000, random)
	s.write("riparo-2026-11-01T02-00-00.000-size.log", 9000, 9000, random)
	s.write(active, 18000, 5000, random)
}

// wanted is what the model says.
func (s *shelf) wanted(holds func(Line) bool) []string {
	var out []string
	for _, l := range s.lines {
		if holds(l) {
			out = append(out, l.Message)
		}
	}
	return out
}

func messages(lines []Line) []string {
	var out []string
	for _, l := range lines {
		out = append(out, l.Message)
	}
	return out
}

// queries are filters and what they mean, said a second time in plain words.
var queries = []struct {
	name  string
	f     Filter
	holds func(Line) bool
}{
	{"everything", Filter{}, func(Line) bool { return true }},
	{"errors", ParseQuery("level:error"), func(l Line) bool { return l.Damaged || l.Level == slog.LevelError }},
	{"warnings and worse", ParseQuery("level>=warning"), func(l Line) bool { return l.Damaged || l.Level >= slog.LevelWarn }},
	{"one machine", ParseQuery("machine:m-07"), func(l Line) bool { return l.Machine == "m-07" }},
	{"one machine by its name", ParseQuery("machine:M-07"), func(l Line) bool { return l.Machine == "m-07" }},
	{"one job across components", ParseQuery("job:j-120"), func(l Line) bool { return l.Job == "j-120" }},
	{"a component without a machine", ParseQuery("component:vault -machine:m-03"), func(l Line) bool { return l.Component == "vault" && l.Machine != "m-03" }},
	{"a quoted text with what JSON escapes", ParseQuery(`"“HELLO” \ and" 12345`), func(l Line) bool { return strings.Contains(l.Message, "line 12345 ") }},
	{"a number", ParseQuery("sequence:17001"), func(l Line) bool { return strings.HasPrefix(l.Message, "line 17001 ") }},
	{"what is torn", ParseQuery("torn"), func(l Line) bool { return l.Damaged }},
	{"what is not torn", ParseQuery("-torn level:debug"), func(l Line) bool { return !l.Damaged && l.Level == slog.LevelDebug }},
	{"nothing", ParseQuery("job:j-999999"), func(Line) bool { return false }},
	{"an hour", Filter{Since: epoch.Add(8500 * time.Second), Until: epoch.Add(9500 * time.Second)},
		func(l Line) bool {
			return !l.Time.Before(epoch.Add(8500*time.Second)) && !l.Time.After(epoch.Add(9500*time.Second))
		}},
}

func TestPagingBackFindsEveryLineOnceAndInOrder(t *testing.T) {
	s := newShelf(t)
	s.three(7)
	for _, limit := range []int{3, 100, 100_000} {
		r := NewReader(s.dir)
		for _, q := range queries {
			var got []string
			pages := 0
			for at := (Position{}); ; pages++ {
				page, err := r.Before(t.Context(), q.f, at, limit)
				if err != nil {
					t.Fatal(err)
				}
				got = append(messages(page.Lines), got...)
				if len(page.Lines) > limit {
					t.Fatalf("%s: %d lines on a page of %d", q.name, len(page.Lines), limit)
				}
				if at = page.Older; at.IsZero() || limit == 3 && pages == 20 {
					break
				}
			}
			want := s.wanted(q.holds)
			if limit == 3 { // only so far: from the end on
				want = want[max(0, len(want)-len(got)):]
			}
			equal(t, fmt.Sprintf("%s, pages of %d", q.name, limit), got, want)
		}
	}
}

func TestReadingOnFindsEveryLineOnceAndInOrder(t *testing.T) {
	s := newShelf(t)
	s.three(8)
	r := NewReader(s.dir)
	r.work = 1 << 20 // a query ends early and goes on
	for _, q := range queries {
		var got []string
		for at := (Position{}); ; {
			page, err := r.After(t.Context(), q.f, at, 700)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, messages(page.Lines)...)
			if at == page.Next {
				break
			}
			at = page.Next
		}
		equal(t, q.name, got, s.wanted(q.holds))
		var each []string
		if err := r.Each(t.Context(), q.f, func(l Line) bool { each = append(each, l.Message); return true }); err != nil {
			t.Fatal(err)
		}
		equal(t, q.name+", all at once", each, s.wanted(q.holds))
	}
}

func TestASearchThatIsLongStopsAndGoesOn(t *testing.T) {
	s := newShelf(t)
	s.three(9)
	r := NewReader(s.dir)
	r.work = 300 << 10
	var got []string
	stops := 0
	for at := (Position{}); ; {
		page, err := r.Before(t.Context(), ParseQuery("hello level:error"), at, 1000)
		if err != nil {
			t.Fatal(err)
		}
		got = append(messages(page.Lines), got...)
		if !page.Reached.IsZero() {
			stops++
		}
		if at = page.Older; at.IsZero() {
			break
		}
	}
	if stops < 3 {
		t.Errorf("it stopped %d times: the bound on the work of a query does not hold", stops)
	}
	equal(t, "errors", got, s.wanted(func(l Line) bool { return !l.Damaged && l.Level == slog.LevelError }))
}

func TestAPlaceHoldsWhenItsFileIsRotatedAndCompressed(t *testing.T) {
	s := newShelf(t)
	s.three(10)
	r := NewReader(s.dir)
	page, err := r.Before(t.Context(), Filter{}, Position{}, 60)
	if err != nil {
		t.Fatal(err)
	}
	chosen := page.Lines[20]
	content, err := os.ReadFile(filepath.Join(s.dir, active))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, active)); err != nil {
		t.Fatal(err)
	}
	s.put("riparo-2026-11-01T03-00-00.000-size.log.gz", content)
	s.write(active, 30000, 10, rand.New(rand.NewPCG(1, 1)))
	for _, reader := range []*Reader{r, NewReader(s.dir)} { // one that knew the file, and one that did not
		around, at, err := reader.Around(t.Context(), chosen.Position, 5)
		if err != nil {
			t.Fatal(err)
		}
		if at != 5 || len(around.Lines) != 11 || around.Lines[at].Raw != chosen.Raw {
			t.Errorf("line %d of %d is around the place, want 5 of 11 and %q", at, len(around.Lines), chosen.Message)
		}
		equal(t, "around", messages(around.Lines), messages(page.Lines[15:26]))
		// Who had read up to the end goes on in the new file.
		next, err := reader.After(t.Context(), Filter{}, page.Next, 100)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "what came since", messages(next.Lines), s.wanted(func(Line) bool { return true })[len(s.lines)-10:])
	}
}

func TestAFileThatIsDamagedDoesNotHideTheOthers(t *testing.T) {
	s := newShelf(t)
	s.three(11)
	all := len(s.lines)
	const name = "riparo-2026-11-01T01-00-00.000-size.log.gz"
	packed, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), packed[:len(packed)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s.put("riparo-2026-11-01T00-00-00.000-size.log", []byte("not a log\n\x00\x01\xff\n"))
	page, err := NewReader(s.dir).Before(t.Context(), Filter{}, Position{}, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Unread) != 1 || !strings.Contains(page.Unread[0], "EOF") {
		t.Errorf("unread: %q, want the file that was cut", page.Unread)
	}
	if got := len(page.Lines); got < 14_000 || got >= all {
		t.Errorf("%d lines of %d, want those of the files that are whole and of the good half", got, all)
	}
	if l := page.Lines[0]; !l.Damaged || l.Message != "not a log" {
		t.Errorf("the first line is %+v, want what stands there, marked as damaged", l)
	}
}

func TestALineWithoutEndIsBoundedAndDoesNotHideTheNext(t *testing.T) {
	s := newShelf(t)
	s.put(active, []byte(strings.Repeat("x", 3*maxLine)+"\n"+`{"time":"2026-11-01T00:00:00Z","level":"INFO","msg":"fine"}`+"\n"))
	page, err := NewReader(s.dir).Before(t.Context(), Filter{}, Position{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	last := page.Lines[len(page.Lines)-1]
	if last.Message != "fine" || last.Damaged || len(page.Lines) < 4 || len(page.Lines[0].Message) > longestText+3 {
		t.Errorf("%d lines, the last %q, the first of %d bytes", len(page.Lines), last.Message, len(page.Lines[0].Message))
	}
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			at := func(s []string) string {
				if i < len(s) {
					return s[i]
				}
				return "nothing"
			}
			t.Fatalf("%s: line %d of %d is %q, want %q of %d", what, i, len(got), at(got), at(want), len(want))
		}
	}
}
