// Package docs is the manual: Markdown files, embedded, which the console serves
// as Help.
package docs

import "embed"

// Manual has index.md as its first page.
//
//go:embed *.md
var Manual embed.FS
