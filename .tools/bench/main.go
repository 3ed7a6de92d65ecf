// Bench measures Riparo against programs that do the same work, on the same images,
// in the same run, and against what the machine can do at most. Absolute times say
// little on a shared machine; the ratios of one run are what counts.
//
//	bench [--short] [--json] [--dir FOLDER]
//
// It is started from the top of the house, after a build.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// scale is how much is measured.
type scale struct {
	size   int64 // of the image, bytes
	data   int64 // of it that is data
	rounds int
}

var (
	shortScale = scale{size: 2 << 30, data: 512 << 20, rounds: 3}
	longScale  = scale{size: 16 << 30, data: 4 << 30, rounds: 5}
)

func main() {
	short := flag.Bool("short", false, "a small image, a few minutes")
	asJSON := flag.Bool("json", false, "print one JSON document")
	dir := flag.String("dir", "", "folder for the images (default: one in the temporary folder)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: one argument too many: %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(*short, *asJSON, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(short, asJSON bool, dir string) (err error) {
	program, err := filepath.Abs("dist/riparo")
	if err != nil {
		return err
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("build first: %w", err)
	}
	dir, err = os.MkdirTemp(dir, "riparo-bench-")
	if err != nil {
		return err
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()
	s := longScale
	if short {
		s = shortScale
	}
	b := bench{program: program, dir: dir, scale: s}
	began := time.Now()
	if err := b.prepare(); err != nil {
		return err
	}
	for _, work := range b.works() {
		if err := b.measure(work); err != nil {
			return fmt.Errorf("%s: %w", work.name, err)
		}
	}
	if err := b.growth(); err != nil {
		return err
	}
	if !asJSON {
		b.print(os.Stdout)
		return nil
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(map[string]any{
		"image_bytes": s.size, "data_bytes": s.data, "rounds": s.rounds,
		"works": b.results, "growth": b.grown, "seconds": time.Since(began).Seconds(),
	})
}
