package logs

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	l.With("component", "protection").Warn("replication cycle ended early", "machine", "m-1", "name", "WEB01", "job", "j-1",
		"error", errors.New(`dial "x"`), "took", 1500*time.Millisecond, "sequence", 42)
	l.Debug("not wanted")
	l.Level.Set(slog.LevelDebug)
	l.Debug("wanted now")
	page, err := NewReader(dir).Before(t.Context(), Filter{}, Position{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "lines", messages(page.Lines), []string{"replication cycle ended early", "wanted now"})
	got := page.Lines[0]
	if got.Component != "protection" || got.Machine != "m-1" || got.Name != "WEB01" || got.Job != "j-1" || got.Level != slog.LevelWarn || time.Since(got.Time) > time.Minute {
		t.Errorf("read back: %+v", got)
	}
	want := []Attr{{"error", `dial "x"`}, {"took", "1.5s"}, {"sequence", "42"}}
	for i, a := range want {
		if i >= len(got.Attrs) || got.Attrs[i] != a {
			t.Errorf("attributes %v, want %v", got.Attrs, want)
			break
		}
	}
}

func TestNoSecretIsWritten(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	l.Info("sign in with password=canary-1", "password", "canary-2", "error", errors.New("https://anna:canary-3@host/ refused"),
		"header", map[string]string{"Authorization": "Bearer canary-4-long"}, slog.Group("smtp", "secret", "canary-5"), "token", []byte("canary-6"),
		"sent", "riparo_ab12_MFRGGZDFMZTWQ2LK")
	text, err := os.ReadFile(filepath.Join(dir, active))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "sign in with") || strings.Contains(string(text), "canary") || strings.Contains(string(text), "MFRGG") {
		t.Errorf("the log has %s", text)
	}
}

func TestTheLogIsRotatedBoundedAndCompressed(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, FileMiB: 1, Files: 3})
	long := strings.Repeat("recovery point ", 60)
	const lines = 8000 // of a KiB: 8 files
	for i := range lines {
		l.Info(long, "sequence", i)
	}
	r := NewReader(dir)
	var u Usage
	for deadline := time.Now().Add(20 * time.Second); ; { // compressing is done beside
		var err error
		if u, err = r.Usage(); err != nil {
			t.Fatal(err)
		}
		zips, _ := filepath.Glob(filepath.Join(dir, "*"+zipped))
		if u.Files == 4 && len(zips) == 3 || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond) // a poll with a deadline
	}
	if u.Files != 4 || u.Bytes > 2<<20 || u.Oldest.IsZero() {
		t.Errorf("%+v, want 4 files of less than 2 MiB together", u)
	}
	page, err := r.Before(t.Context(), Filter{}, Position{}, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	n := len(page.Lines)
	if n < 3000 || n == lines {
		t.Fatalf("%d lines are left, want those of three files and a part", n)
	}
	for i, line := range page.Lines {
		if got, want := line.Attrs[0].Value, slog.IntValue(lines-n+i).String(); got != want {
			t.Fatalf("line %d has sequence %s, want %s", i, got, want)
		}
	}
}

func TestALineThatACrashToreIsKeptApart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, active), []byte(`{"time":"2026-11-01T00:00:00Z","level":"INFO","msg":"whole"}`+"\n"+`{"time":"2026-11-01T00:0`), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir}).Info("after the crash")
	page, err := NewReader(dir).Before(t.Context(), Filter{}, Position{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "lines", messages(page.Lines), []string{"whole", `{"time":"2026-11-01T00:0`, "after the crash"})
}

func TestATornLineIsShownOnceNobodyWritesIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, active)
	if err := os.WriteFile(path, []byte(`{"time":"2026-11-01T00:00:00Z","level":"INFO","msg":"whole"}`+"\n"+`{"time":"2026`), 0o600); err != nil {
		t.Fatal(err)
	}
	look := func() []string {
		page, err := NewReader(dir).Before(t.Context(), Filter{}, Position{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		return messages(page.Lines)
	}
	now := time.Now().Add(time.Hour) // as if it were written this very moment
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	equal(t, "while it is written", look(), []string{"whole"})
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
	equal(t, "an hour later", look(), []string{"whole", `{"time":"2026`})
}

// TestFollowingMissesNothing follows a log that is written to by several and rotated
// meanwhile.
func TestFollowingMissesNothing(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, FileMiB: 1, Files: 50})
	nudge, cancel := l.Subscribe()
	defer cancel()
	const writers, each = 4, 1500
	var group sync.WaitGroup
	pad := strings.Repeat("x", 600)
	for w := range writers {
		group.Go(func() {
			for i := range each {
				l.Info("line", "writer", w, "number", i, "pad", pad)
			}
		})
	}
	r := NewReader(dir)
	next := [writers]int{}
	total := 0
	deadline := time.After(60 * time.Second)
	for at := (Position{}); total < writers*each; {
		page, err := r.After(t.Context(), Filter{}, at, 500)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range page.Lines {
			w := int(line.Attrs[0].Value[0] - '0')
			if want := slog.IntValue(next[w]).String(); line.Damaged || line.Attrs[1].Value != want {
				t.Fatalf("writer %d: number %s, want %s", w, line.Attrs[1].Value, want)
			}
			next[w]++
			total++
		}
		if at == page.Next {
			select {
			case <-nudge:
			case <-deadline:
				t.Fatalf("%d lines of %d", total, writers*each)
			}
		}
		at = page.Next
	}
	group.Wait()
}

func TestATornLineIsFoundWhateverTheLevel(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, active), []byte(`{"time":"2026-11-01T00:00:00Z","level":"DEBUG","msg":"whole"}`+"\n"+`{"time":"2026-11-01T00:0`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	page, err := NewReader(dir).Before(t.Context(), ParseQuery("level:error"), Position{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "errors", messages(page.Lines), []string{`{"time":"2026-11-01T00:0`})
}
