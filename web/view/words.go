package view

import (
	"context"
	"embed"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"github.com/pelletier/go-toml/v2"
	"golang.org/x/text/language"
)

//go:embed words.en.toml words.it.toml
var catalogs embed.FS

// Languages are those that the console speaks, the first one by default.
var Languages = []string{"en", "it"}

// Catalog holds the words of all languages. It does not change after Load.
type Catalog struct {
	bundle *i18n.Bundle
	// tongues are by language.
	tongues map[string]*tongue
	matcher language.Matcher
}

// tongue is one language. Words without blanks to fill are kept as they are:
// they are nine in ten, and a page asks for hundreds.
type tongue struct {
	name      string
	localizer *i18n.Localizer
	fixed     map[string]string
	known     map[string]bool
	sentences sentences // of the daemon; none in English
}

// Load reads the embedded catalogs, the first time that it is called.
var Load = sync.OnceValues(load)

func load() (*Catalog, error) {
	bundle := i18n.NewBundle(language.English)
	bundle.RegisterUnmarshalFunc("toml", toml.Unmarshal)
	c := &Catalog{bundle: bundle, tongues: map[string]*tongue{}}
	var tags []language.Tag
	for _, name := range Languages {
		file, err := bundle.LoadMessageFileFS(catalogs, "words."+name+".toml")
		if err != nil {
			return nil, fmt.Errorf("read the words of language %s: %w", name, err)
		}
		t := &tongue{name: name, localizer: i18n.NewLocalizer(bundle, name), fixed: map[string]string{}, known: map[string]bool{}}
		for _, m := range file.Messages {
			t.known[m.ID] = true
			if !strings.Contains(m.Other, "{{") && m.One == "" {
				t.fixed[m.ID] = m.Other
			}
		}
		c.tongues[name] = t
		tags = append(tags, language.MustParse(name))
	}
	said, err := readSentences(toldItalian)
	if err != nil {
		return nil, err
	}
	c.tongues["it"].sentences = said
	c.matcher = language.NewMatcher(tags)
	return c, nil
}

// Match chooses a language from what an account or a browser prefers, in order of
// weight. Each may be a language or the text of an Accept-Language header.
func (c *Catalog) Match(preferences ...string) string {
	for _, p := range preferences {
		tags, _, err := language.ParseAcceptLanguage(p)
		if err != nil || len(tags) == 0 {
			continue
		}
		if _, i, confidence := c.matcher.Match(tags...); confidence > language.No {
			return Languages[i]
		}
	}
	return Languages[0]
}

// Keys are the names of all words of a language, sorted.
func (c *Catalog) Keys(lang string) []string {
	var keys []string
	for k := range c.tongues[lang].known {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// Words gives the words of a language, with times of a zone. A nil zone is UTC,
// and times say so.
func (c *Catalog) Words(lang string, zone *time.Location) *Words {
	t := c.tongues[lang]
	if t == nil {
		t = c.tongues[Languages[0]]
	}
	w := &Words{tongue: t, zone: zone, utc: zone == nil}
	if w.utc {
		w.zone = time.UTC
	}
	return w
}

// Words speak to one reader: a language and a time zone.
type Words struct {
	tongue *tongue
	zone   *time.Location
	utc    bool // the reader's zone is not known, so times name theirs
}

// Lang is the language, as in the lang attribute of a page.
func (w *Words) Lang() string { return w.tongue.name }

// T is the text of a key. Blanks are filled from pairs of name and value.
func (w *Words) T(key string, blanks ...any) string {
	if text, ok := w.tongue.fixed[key]; ok {
		return text
	}
	return w.localize(&i18n.LocalizeConfig{MessageID: key, TemplateData: pairs(blanks)})
}

// N is the text of a key for n things; its blank Count is n, written out.
func (w *Words) N(key string, n int, blanks ...any) string {
	data := pairs(blanks)
	data["Count"] = w.Int(int64(n))
	return w.localize(&i18n.LocalizeConfig{MessageID: key, PluralCount: n, TemplateData: data})
}

// Has reports whether a key has a text: names that come from the daemon (a step,
// an event) are translated when they are known and shown as they are otherwise.
func (w *Words) Has(key string) bool { return w.tongue.known[key] }

// Named is the text of prefix.name, or else name as it is.
func (w *Words) Named(prefix, name string) string {
	if key := prefix + "." + slug(name); w.Has(key) {
		return w.T(key)
	}
	return name
}

// slug makes a key of a name: "waiting to retry" is waiting-to-retry.
func slug(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
}

func (w *Words) localize(config *i18n.LocalizeConfig) string {
	text, err := w.tongue.localizer.Localize(config)
	if err != nil {
		// A missing word is shown by its key: ugly, but it hides nothing. A test
		// holds that none is missing.
		return config.MessageID
	}
	return text
}

func pairs(blanks []any) map[string]any {
	data := make(map[string]any, len(blanks)/2+1)
	for i := 0; i+1 < len(blanks); i += 2 {
		data[fmt.Sprint(blanks[i])] = blanks[i+1]
	}
	return data
}

type wordsKey struct{}

// With gives a context whose components speak w.
func With(ctx context.Context, w *Words) context.Context {
	return context.WithValue(ctx, wordsKey{}, w)
}

func words(ctx context.Context) *Words {
	w, _ := ctx.Value(wordsKey{}).(*Words)
	return w
}

// t is what templates call.
func t(ctx context.Context, key string, blanks ...any) string { return words(ctx).T(key, blanks...) }
