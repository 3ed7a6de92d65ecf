package asset

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed css live.js logs.js icon.svg
var files embed.FS

// sheets are the parts of the style sheet in the order in which they are served.
var sheets = []string{"css/tokens.css", "css/base.css", "css/layout.css", "css/parts.css", "css/pages.css", "css/access.css", "css/logs.css", "css/setup.css", "css/media.css"}

// scripts are the parts of the script, likewise.
var scripts = []string{"live.js", "logs.js"}

// Prefix is the path below which assets are served.
const Prefix = "/static/"

// Set is all assets, ready to be served.
type Set struct {
	Style, Script, Icon string // their paths
	byPath              map[string]file
}

type file struct {
	kind          string
	plain, zipped []byte
}

// Load reads the embedded files.
func Load() (*Set, error) {
	s := &Set{byPath: map[string]file{}}
	var style bytes.Buffer
	for _, name := range sheets {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the style sheet: %w", err)
		}
		style.Write(text)
	}
	var script bytes.Buffer
	for _, name := range scripts {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the script: %w", err)
		}
		script.Write(text)
	}
	icon, err := files.ReadFile("icon.svg")
	if err != nil {
		return nil, fmt.Errorf("read the icon: %w", err)
	}
	s.Style = s.add("riparo.css", "text/css; charset=utf-8", style.Bytes())
	s.Script = s.add("live.js", "text/javascript; charset=utf-8", script.Bytes())
	s.Icon = s.add("icon.svg", "image/svg+xml", icon)
	return s, nil
}

func (s *Set) add(name, kind string, plain []byte) string {
	sum := sha256.Sum256(plain)
	path := Prefix + hex.EncodeToString(sum[:8]) + "/" + name
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is a valid one
	z.Write(plain)
	z.Close()
	s.byPath[path] = file{kind: kind, plain: plain, zipped: zipped.Bytes()}
	return path
}

// ServeHTTP serves an asset. The path contains its hash, so it may be kept for ever.
func (s *Set) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := s.byPath[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
		h.Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(http.StatusOK)
		if r.Method != http.MethodHead {
			w.Write(body)
		}
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// Style gives the whole style sheet as text, for tests that measure it.
func Style() (string, error) {
	var all strings.Builder
	for _, name := range sheets {
		text, err := files.ReadFile(name)
		if err != nil {
			return "", err
		}
		all.Write(text)
	}
	return all.String(), nil
}
