package web_test

import (
	"encoding/json"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"riparo/store"
	"riparo/web/api"
	"riparo/web/browsertest"
)

// beginLog begins the log: one good line, and one that a crash tore.
func (h *house) beginLog() {
	h.Helper()
	const lines = `{"time":"2026-11-23T08:00:00Z","level":"INFO","msg":"the first line","component":"appliance"}` + "\n" + `{"time":"torn by a <b>crash`
	if err := os.WriteFile(filepath.Join(h.logFolder, "riparo.log"), []byte(lines), 0o600); err != nil {
		h.Fatal(err)
	}
}

// writeLog writes n lines of an ordinary day, and some that are not.
func (h *house) writeLog(n int) {
	h.Helper()
	for i := range n {
		switch {
		case i%50 == 20:
			h.log.Warn("the send queue is over its limit", "component", "process server", "machine", "m-4f7c21aa", "name", "web01", "job", runningJob, "limit", "4 GiB")
		case i%100 == 45:
			h.log.Error("no heartbeat", "component", "discovery", "site", "Torino", "error", "dial tcp 10.4.2.12:5985: i/o timeout")
		default:
			h.log.Info("recovery point taken", "component", "protection", "machine", "m-5b10c3d2", "name", "sql01", "sequence", i)
		}
	}
	h.log.Info("the last line", "component", "appliance")
}

// rowsOf gives the identifiers and the texts of the lines on a page.
var logRow = regexp.MustCompile(`(?s)<li[^>]* id="(log-[^"]+)"(.*?)</li>`)

func rowsOf(page string) (ids, texts []string) {
	for _, m := range logRow.FindAllStringSubmatch(page, -1) {
		ids, texts = append(ids, m[1]), append(texts, html.UnescapeString(m[2]))
	}
	return ids, texts
}

func TestTheLogIsPagedFromTheNewestToTheOldest(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	seen := map[string]bool{}
	path, pages := "/logs", 0
	older := regexp.MustCompile(`href="(/logs\?before=[^"]+)"`)
	for ; path != ""; pages++ {
		a := b.get(path)
		ids, texts := rowsOf(a.body)
		for _, id := range ids {
			if seen[id] {
				t.Fatalf("%s is on two pages", id)
			}
			seen[id] = true
		}
		if pages == 0 && !strings.Contains(texts[len(texts)-1], "the last line") {
			t.Errorf("the first page ends with %q", texts[len(texts)-1])
		}
		path = ""
		if m := older.FindStringSubmatch(a.body); m != nil {
			path = html.UnescapeString(m[1])
		}
	}
	if len(seen) != 253 || pages != 3 {
		t.Errorf("%d lines on %d pages, want 253 on 3", len(seen), pages)
	}
}

func TestAFilterOfTheLogIsInTheAddress(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	for _, row := range []struct {
		path  string
		lines int
		text  string
	}{
		{"/logs?level=error", 4, ""}, // three, and the one that was torn
		{"/logs?level=error&q=heartbeat", 3, "no heartbeat"},
		{"/logs?machine=m-4f7c21aa", 5, "the send queue"},
		{"/logs?q=machine:WEB01", 5, "the send queue"},
		{"/logs?job=" + runningJob, 5, "process server"},
		{"/logs?component=discovery", 3, "no heartbeat"},
		{"/logs?q=sequence:7", 1, "sequence=7"},
		{"/logs?q=%22i%2Fo+timeout%22+-site:milano", 3, "10.4.2.12"},
		{"/logs?q=sequence:7+site:Torino", 0, ""},
	} {
		_, texts := rowsOf(b.get(row.path).body)
		if len(texts) != row.lines {
			t.Errorf("%s: %d lines, want %d", row.path, len(texts), row.lines)
		}
		for _, text := range texts {
			if !strings.Contains(text, row.text) {
				t.Errorf("%s shows %q, want only %q", row.path, text, row.text)
			}
		}
	}
}

func TestALineIsShownWithWhatWasAroundIt(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	page := b.get("/logs?level=error&q=heartbeat").body
	ids, _ := rowsOf(page)
	context := b.get("/logs?around=" + strings.TrimPrefix(ids[1], "log-"))
	around, _ := rowsOf(context.body)
	if len(around) != 101 || around[50] != ids[1] {
		t.Errorf("%d lines are around it, the middle one is not it", len(around))
	}
	for _, want := range []string{"dial tcp 10.4.2.12:5985: i/o timeout", "recovery point taken", `aria-current="true"`} {
		if !strings.Contains(context.body, want) {
			t.Errorf("the context lacks %q", want)
		}
	}
	for _, wrong := range []string{"around=zz-zz", "around=%25", "before=x", "after=-", "at=never"} {
		if a := b.get("/logs?" + wrong); a.status != http.StatusConflict || !strings.Contains(a.body, "</html>") {
			t.Errorf("/logs?%s: got %d, want 409 as a page", wrong, a.status)
		}
	}
}

func TestWhatTheLogHoldsIsNeverTakenForAPage(t *testing.T) {
	h := newHouse(t, true).claimed()
	h.log.Info(`<script>alert(1)</script>`, "component", `"><img src=x>`, "machine", `m"><b>`, "job", `j-<i>`, "other", "<u>")
	page := h.signedIn("").get("/logs?level=debug,info,warn,error").body
	for _, bad := range []string{"<script>alert", "<img src=x", `"><b>`, "<i>", "<u>", "<b>crash"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q as it stands in the log", bad)
		}
	}
}

func TestADownloadHasWhatTheFilterChooses(t *testing.T) {
	h := newHouse(t, true).claimed()
	h.log.Info("late", "component", "console", "note", "password=canary")
	a := h.signedIn("").get("/logs/download?level=error,warn&q=-torn")
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	if len(lines) != 8 || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") {
		t.Fatalf("%d lines, want 8: %v", len(lines), a.header)
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || first["limit"] != "4 GiB" {
		t.Errorf("the first line is %s (%v)", lines[0], err)
	}
}

func TestThePageOfTheLogIsSentOnlyWhatIsNew(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	known, _ := rowsOf(b.get("/logs").body)
	s, _ := b.dial("/logs", nil)
	s.until(`id="` + known[len(known)-1] + `"`)
	for i := range 3 {
		h.log.Info(fmt.Sprintf("fresh %d", i), "component", "jobs")
		frame := s.until(fmt.Sprintf("fresh %d", i))
		ids, texts := rowsOf(frame)
		if len(ids) != 1 || !strings.Contains(texts[0], "jobs") || !strings.Contains(frame, `data-into="log-lines"`) {
			t.Errorf("the frame carries %d lines, want the new one alone", len(ids))
		}
	}
	// A page of older lines does not move.
	if old := b.get("/logs?before=" + strings.TrimPrefix(known[0], "log-")).body; strings.Contains(old, "data-live=") {
		t.Error("a page of older lines is live")
	}
}

func TestOnlyAnAdministratorChangesTheLevel(t *testing.T) {
	h := newHouse(t, true).claimed()
	if a := h.signedIn(store.RecoveryOperator).post("/logs/level", "level", "debug"); a.status != http.StatusForbidden {
		t.Errorf("a recovery operator: got %d, want 403", a.status)
	}
	b := h.signedIn("")
	if a := b.post("/logs/level", "level", "debug"); a.status != http.StatusSeeOther || h.log.Level.Level() != slog.LevelDebug {
		t.Errorf("got %d and level %s", a.status, h.log.Level.Level())
	}
	if a := b.post("/logs/level", "level", "loud"); a.status != http.StatusConflict {
		t.Errorf("an unknown level: got %d, want 409", a.status)
	}
}

func TestTheLogThroughTheAPI(t *testing.T) {
	h := newHouse(t, true).claimed()
	client := h.client(store.Viewer)
	page, err := client.Logs(t.Context(), api.LogFilter{Level: "warn", Component: "process server"}, "", 3)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Lines) != 3 || page.Lines[0].Name != "web01" || page.Lines[0].Level != "WARN" || page.Older == "" {
		t.Errorf("got %+v", page)
	}
	older, err := client.Logs(t.Context(), api.LogFilter{Level: "warn", Component: "process server"}, page.Older, 3)
	if err != nil || len(older.Lines) != 2 || older.Older != "" && len(older.Lines) == 3 {
		t.Errorf("older: %d lines, %v", len(older.Lines), err)
	}
	if _, err := client.Logs(t.Context(), api.LogFilter{Level: "loud"}, "", 1); err == nil {
		t.Error("an unknown level is taken")
	}
	// Following begins where the page ended, and misses nothing that came meanwhile.
	h.log.Warn("meanwhile", "component", "process server")
	var got []string
	enough := fmt.Errorf("enough")
	err = client.FollowLogs(t.Context(), api.LogFilter{Level: "warn"}, page.Next, func(l api.LogLine) error {
		if got = append(got, l.Message); len(got) == 1 {
			h.log.Info("not wanted")
			h.log.Error("at last")
		}
		if l.Message == "at last" {
			return enough
		}
		return nil
	})
	if err != enough || strings.Join(got, ", ") != "meanwhile, at last" {
		t.Errorf("followed %q: %v", got, err)
	}
	if err := client.SetLogLevel(t.Context(), "debug"); err == nil {
		t.Error("a viewer changes the level")
	}
	admin := h.client(store.Administrator)
	if err := admin.SetLogLevel(t.Context(), "error"); err != nil {
		t.Fatal(err)
	}
	if level, err := admin.LogLevel(t.Context()); err != nil || level != "error" {
		t.Errorf("the level is %q (%v)", level, err)
	}
}

// TestNewLinesWaitWhileTheReaderLooksBack is the page in a browser.
func TestNewLinesWaitWhileTheReaderLooksBack(t *testing.T) {
	h := newHouse(t, true).claimed()
	c := h.openChrome()
	c.signIn()
	c.Visit("/logs")
	c.Until("the socket", `document.querySelector("#live").textContent === "Live"`)
	last := `document.querySelector("#log-lines").lastElementChild.textContent`
	h.log.Info("seen at once", "component", "jobs")
	c.Until("the new line", last+`.includes("seen at once")`)
	// Looking back, lines wait and are counted.
	c.JS(`(document.querySelector(".log-scroll").scrollTop = -400, 0)`)
	h.log.Info("waits one", "component", "jobs")
	h.log.Info("waits two", "component", "jobs")
	c.Until("the count", `document.querySelector("#log-more").textContent === "2 new lines" && !document.querySelector("#log-more").hidden`)
	if text := c.JS(last); !strings.Contains(text, "seen at once") {
		t.Errorf("the list moved under the reader: %s", text)
	}
	c.JS(`(document.querySelector("#log-more").click(), 0)`)
	c.Until("the lines", last+`.includes("waits two") && document.querySelector("#log-more").hidden`)
	// Paused, they wait too.
	c.JS(`(document.querySelector("#log-pause").click(), 0)`)
	h.log.Info("waits three", "component", "jobs")
	c.Until("the count", `document.querySelector("#log-more").textContent === "1 new line"`)
	c.JS(`(document.querySelector("#log-pause").click(), 0)`)
	c.Until("the line", last+`.includes("waits three")`)
	// By key from line to line, and into the context.
	c.JS(`(document.querySelector("#log-lines").lastElementChild.querySelector("a.at").focus(), 0)`)
	c.Press("kk")
	if text := c.JS(`document.activeElement.closest("li").textContent`); !strings.Contains(text, "waits one") {
		t.Errorf("two lines up is %q", text)
	}
	c.Leave("what was around it", func() { c.Press("\r") })
	c.Until("the context", `document.querySelector("li.chosen")?.textContent.includes("waits one")`)
	if said := c.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}

// TestALogThatRunsAwayDoesNotHoldUpThePage writes faster than anybody reads.
func TestALogThatRunsAwayDoesNotHoldUpThePage(t *testing.T) {
	h := newHouse(t, true).claimed()
	s, _ := h.signedIn("").dial("/logs?q=flood", nil)
	s.until("data-as-of")
	const lines = 5000
	for i := range lines {
		h.log.Info("flood", "component", "jobs", "number", i)
	}
	deadline := time.Now().Add(browsertest.Patience)
	for {
		frame, err := s.frame()
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the end of the flood did not come: %v", err)
		}
		if n := strings.Count(frame, `data-into=`); n > 100 {
			t.Fatalf("a frame carries %d lines: it queued what the browser had no time for", n)
		}
		if strings.Contains(frame, fmt.Sprintf("number=%d", lines-1)) {
			return
		}
	}
}
