package bundle

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"riparo/store/redact"
)

// Part is a file of the bundle.
type Part struct {
	Name string `json:"name"` // in the ZIP file
	// About says what it is: a key of the console's words.
	About string `json:"about"`
	// Size is its length in bytes before it is compressed; for what is made when it is
	// packed, about that.
	Size int64 `json:"bytes"`
	// Write writes it, as text. Secrets are taken out behind it.
	Write func(ctx context.Context, w io.Writer) error `json:"-"`
}

// manifest is the first file: what the bundle is, and what was meant to be in it.
type manifest struct {
	Created time.Time `json:"created"`
	Version string    `json:"version"`
	Go      string    `json:"go"`
	System  string    `json:"system"`
	Parts   []Part    `json:"parts"`
}

// Write packs parts in their order. Records come before the log: the secrets they
// name are then known. A part that cannot be read is replaced by the reason, so that
// a damaged appliance can still be looked into; only an error of w ends it.
func Write(ctx context.Context, w io.Writer, version string, now time.Time, parts []Part, secrets *redact.Values) error {
	packed := zip.NewWriter(w)
	about := manifest{Created: now.UTC(), Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Parts: parts}
	first := Part{Name: "manifest.json", Write: func(_ context.Context, w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(about)
	}}
	for _, p := range append([]Part{first}, parts...) {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := packed.CreateHeader(&zip.FileHeader{Name: p.Name, Method: zip.Deflate, Modified: now})
		if err != nil {
			return err
		}
		out := &clean{to: f, secrets: secrets}
		if err := p.Write(ctx, out); err != nil && out.err == nil {
			fmt.Fprintf(out, "\nthe rest could not be read: %v\n", err)
		}
		if err := out.end(); err != nil {
			return err
		}
	}
	return packed.Close()
}

const (
	// longestLine bounds what is held back to look at a line as a whole; of a longer
	// one the rest is left out, because a secret could stand across the cut.
	longestLine = 1 << 20
	keyBegin    = "PRIVATE KEY-----"
)

// clean lets lines through without their secrets.
type clean struct {
	to      io.Writer
	secrets *redact.Values
	line    []byte
	cut     bool // the line is too long
	key     bool // inside of a private key
	err     error
}

func (c *clean) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && c.err == nil; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			c.hold(rest)
			break
		}
		c.hold(rest[:end])
		c.flush("\n")
		rest = rest[end+1:]
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

func (c *clean) hold(part []byte) {
	if room := longestLine - len(c.line); len(part) > room {
		part, c.cut = part[:room], true
	}
	c.line = append(c.line, part...)
}

func (c *clean) flush(end string) {
	text := c.secrets.Text(string(c.line))
	if c.cut {
		text = "[a line of more than a mebibyte]"
	}
	raw := string(c.line)
	c.line, c.cut = c.line[:0], false
	begins := strings.Contains(raw, "-----BEGIN ") && strings.Contains(raw, keyBegin)
	ends := strings.Contains(raw, "-----END ")
	switch {
	case c.key && ends:
		c.key = false
		return
	case c.key:
		return
	case begins && !ends:
		c.key = true
	}
	if _, err := io.WriteString(c.to, text+end); err != nil && c.err == nil {
		c.err = err
	}
}

func (c *clean) end() error {
	if len(c.line) > 0 {
		c.flush("")
	}
	return c.err
}

// Text is a part that is made when it is asked for.
func Text(name, about string, size int64, write func(w *bufio.Writer) error) Part {
	return Part{Name: name, About: about, Size: size, Write: func(_ context.Context, w io.Writer) error {
		out := bufio.NewWriter(w)
		if err := write(out); err != nil {
			out.Flush() // what there is is worth having
			return err
		}
		return out.Flush()
	}}
}
