package view

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func catalog(t *testing.T) *Catalog {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// daemonKeys are for what the daemon says in English: they exist in the other
// languages only.
func daemonKey(key string) bool {
	return strings.HasPrefix(key, "said.") || strings.HasPrefix(key, "pattern.") || strings.HasPrefix(key, "event.") ||
		strings.HasPrefix(key, "spoken.") || strings.HasPrefix(key, "evidence.") || strings.HasPrefix(key, "scenario.")
}

func TestEveryLanguageHasEveryWord(t *testing.T) {
	c := catalog(t)
	english, italian := c.Keys("en"), c.Keys("it")
	for _, k := range english {
		if !slices.Contains(italian, k) {
			t.Errorf("Italian lacks %q", k)
		}
	}
	for _, k := range italian {
		if !slices.Contains(english, k) && !daemonKey(k) {
			t.Errorf("English lacks %q", k)
		}
	}
}

// uses finds the keys in sources. A key that ends in a dot or a hyphen is a prefix.
var uses = regexp.MustCompile(`(?:\bt\(ctx, |\btn\(ctx, |\.T\(|\.N\(|Named\()"([^"]+)"`)

func sources(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.go", "*.templ", "../*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_templ.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			texts[name] = string(text)
		}
	}
	return texts
}

func TestEveryKeyThatIsUsedExists(t *testing.T) {
	known := append(catalog(t).Keys("en"), catalog(t).Keys("it")...)
	for name, text := range sources(t) {
		for _, m := range uses.FindAllStringSubmatch(text, -1) {
			key := m[1]
			if strings.Contains(m[0], "Named(") {
				key += "."
			}
			prefix := strings.HasSuffix(key, ".") || strings.HasSuffix(key, "-")
			found := slices.Contains(known, key) || prefix && slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, key) })
			if !found {
				t.Errorf("%s uses %q, which no catalog has", name, key)
			}
		}
	}
}

func TestNoWordIsLeftUnused(t *testing.T) {
	var used []string
	for _, text := range sources(t) {
		used = append(used, text)
	}
	all := strings.Join(used, "\n")
	prefixes := []string{"tone.", "theme.", "nav.", "verb.", "ask.", "effect.", "place.", "need.", "state.", "job-state.", "power.", "drill-state.", "role.",
		"site-kind.", "point-kind.", "step.", "timeline.", "machines.filter-", "jobs.filter-", "events.filter-", "tokens.life-", "policy.", "alert.", "severity.", "setup.step-", "setup.proxy-", "settings.lead-", "settings.tab-", "check.", "notify.", "action.", "outcome.", "approval-state."}
	prefixes = append(prefixes, "logs.level-", "bundle.part.", "peer.doubt-")
	prefixes = append(prefixes, "door.", "scope.", "source.", "password.score-")
	for _, k := range catalog(t).Keys("en") {
		if strings.Contains(all, `"`+k+`"`) || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(k, p) }) {
			continue
		}
		t.Errorf("nobody uses %q", k)
	}
}

// bare finds text between tags that is not an expression: letters that are in no
// catalog.
var bare = regexp.MustCompile(`>([^<>{}]*\p{L}[^<>{}]*)<`)

// spoken attributes are read to people.
var spokenAttribute = regexp.MustCompile(`\b(aria-label|title|placeholder|alt)="([^"]*\p{L}[^"]*)"`)

func TestNoTemplateHoldsBareText(t *testing.T) {
	allowed := []string{"Riparo", "riparo_"}
	names, _ := filepath.Glob("*.templ")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			code := strings.TrimSpace(line)
			if strings.HasPrefix(code, "//") || strings.HasPrefix(code, "if ") || strings.HasPrefix(code, "for ") || strings.HasPrefix(code, "<!DOCTYPE") {
				continue
			}
			for _, m := range append(bare.FindAllStringSubmatch(code, -1), spokenAttribute.FindAllStringSubmatch(code, -1)...) {
				said := m[len(m)-1]
				if !slices.ContainsFunc(allowed, func(a string) bool { return strings.Contains(said, a) }) {
					t.Errorf("%s:%d: bare text %q", name, i+1, said)
				}
			}
		}
	}
}

func TestFormatsFollowTheLanguage(t *testing.T) {
	c := catalog(t)
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Skip("no time zones here: ", err)
	}
	en, it := c.Words("en", nil), c.Words("it", rome)
	at := time.Date(2026, 11, 23, 9, 4, 5, 0, time.UTC)
	for _, row := range []struct{ got, want string }{
		{en.Int(1234567), "1,234,567"}, {it.Int(1234567), "1.234.567"}, {it.Int(-1234), "-1.234"},
		{en.Number(14.25, 1), "14.2"}, {it.Number(14.25, 1), "14,2"}, {en.Number(-0.5, 1), "-0.5"},
		{en.Bytes(0), "0 B"}, {en.Bytes(1023), "1.0 KiB"}, {en.Bytes(1536), "1.5 KiB"}, {it.Bytes(15 << 29), "7,5 GiB"}, {en.Bytes(1 << 40), "1 TiB"},
		{en.Rate(5 << 20), "5 MiB/s"},
		{en.Duration(0), "0 s"}, {en.Duration(250 * time.Millisecond), "250 ms"}, {en.Duration(59 * time.Second), "59 s"},
		{en.Duration(time.Minute), "1 min"}, {en.Duration(250 * time.Second), "4 min 10 s"}, {en.Duration(72 * time.Minute), "1 h 12 min"},
		{it.Duration(76 * time.Hour), "3 g 4 h"}, {en.Duration(-time.Second), "0 s"},
		{en.Time(at), "23 Nov 2026, 09:04:05 UTC"}, {it.Time(at), "23 nov 2026, 10:04:05"}, {en.Time(time.Time{}), "unknown"},
		{en.Short(at, at.Add(time.Hour)), "09:04:05 UTC"}, {it.Short(at, at.AddDate(0, 0, 2)), "23 nov, 10:04"}, {it.Short(at, at.AddDate(1, 0, 0)), "23 nov 2026"},
		{en.Ago(at, at.Add(90*time.Second)), "1 min 30 s ago"}, {it.Ago(time.Time{}, at), "mai"},
		{en.Percent(1, 0), "unknown"}, {en.Percent(1, 4), "25 %"}, {en.Setting(0), "off"},
		{it.N("policy.used", 1), "1 macchina"}, {it.N("policy.used", 1200), "1.200 macchine"},
	} {
		if row.got != row.want {
			t.Errorf("got %q, want %q", row.got, row.want)
		}
	}
}

func TestTheLanguageIsChosenByPreference(t *testing.T) {
	c := catalog(t)
	for _, row := range []struct {
		preferences []string
		want        string
	}{{[]string{"", "", "it-IT,it;q=0.9,en;q=0.8"}, "it"}, {[]string{"en", "it"}, "en"}, {[]string{"", "fr-FR,fr"}, "en"}, {[]string{"", "fr,it;q=0.5"}, "it"}, {[]string{"\x00;;"}, "en"}, {nil, "en"}} {
		if got := c.Match(row.preferences...); got != row.want {
			t.Errorf("Match(%q) = %q, want %q", row.preferences, got, row.want)
		}
	}
}
