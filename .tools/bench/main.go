// Bench measures Riparo against programs that do the same work, on the same images,
// in the same run, and against what the machine can do at most. Absolute times say
// little on a shared machine; the ratios of one run are what counts.
//
//	bench [--short] [--json] [--rounds N] [--only WORK,…] [--minutes N] [--dir FOLDER]
//
// Every contestant does a work once in every round, one after the other, so that
// noise of the machine falls on all alike, and every result of ours is compared byte
// for byte with what it has to be. The output is Markdown, as the README has it. It
// is started from the top of the house, after a build.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// scale is how much is measured.
type scale struct {
	size     int64 // of the image, bytes
	data     int64 // of it that is data
	database int64 // size of the database, bytes
	grow     []int64
	points   []int // of a disk
	rounds   int
}

var (
	shortScale = scale{size: 2 << 30, data: 1 << 30, database: 256 << 20, grow: []int64{1, 16, 64}, points: []int{100, 5000}, rounds: 2}
	longScale  = scale{size: 8 << 30, data: 4 << 30, database: 1 << 30, grow: []int64{1, 16, 64, 256}, points: []int{100, 1000, 5000, 20_000}, rounds: 3}
)

func main() {
	short := flag.Bool("short", false, "a small image, a few minutes")
	asJSON := flag.Bool("json", false, "print one JSON document")
	dir := flag.String("dir", "", "folder for the images (default: one in the temporary folder)")
	rounds := flag.Int("rounds", 0, "rounds of each work (default: 3, short 2)")
	only := flag.String("only", "", "works to measure, separated by commas: "+strings.Join(workKeys(), ", "))
	minutes := flag.Int("minutes", 17, "about how long it may take: a work that has used up its share is not repeated")
	makeIn := flag.String("make", "", "only make the images in this folder; bench calls itself so, to stay small")
	use := flag.Bool("use-memory", false, "only use some memory once, likewise")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: one argument too many: %q\n", flag.Arg(0))
		os.Exit(2)
	}
	s := longScale
	if *short {
		s = shortScale
	}
	if *rounds > 0 {
		s.rounds = *rounds
	}
	b := bench{scale: s, short: *short, only: *only, began: time.Now(), allowed: time.Duration(*minutes) * time.Minute}
	var err error
	switch {
	case *makeIn != "":
		b.dir = *makeIn
		err = b.makeImages()
	case *use:
		err = useMemory()
	default:
		err = b.run(*asJSON, *dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(asJSON bool, dir string) (err error) {
	if b.program, err = filepath.Abs("dist/riparo"); err != nil {
		return err
	}
	if _, err := os.Stat(b.program); err != nil {
		return fmt.Errorf("build first: %w", err)
	}
	if err := b.choose(); err != nil {
		return err
	}
	if err := b.room(dir); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(dir, "riparo-bench-"); err != nil {
		return err
	}
	defer func() {
		if e := os.RemoveAll(b.dir); err == nil {
			err = e
		}
	}()
	b.machine = describeMachine(b.dir)
	if err := b.prepare(); err != nil {
		return err
	}
	// What was measured is printed also when something failed later on.
	err = b.measureAll()
	if !asJSON {
		b.print(os.Stdout)
		return err
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return errors.Join(err, e.Encode(map[string]any{
		"machine": b.machine, "image_bytes": b.scale.size, "data_bytes": b.scale.data, "rounds": b.scale.rounds,
		"works": b.results, "profile": b.spent, "disk": b.rates, "growth": b.grown, "points": b.aged, "seconds": time.Since(b.began).Seconds(),
	}))
}

// measureAll does all that was chosen.
func (b *bench) measureAll() error {
	all, passed := 0, 0
	for _, w := range b.works() {
		if b.chosen(w.key) {
			all += w.share
		}
	}
	prepared := time.Now()
	for _, w := range b.works() {
		if !b.chosen(w.key) {
			continue
		}
		// What a work leaves of its time is for those after it.
		passed += w.share
		b.until = prepared.Add((b.allowed - prepared.Sub(b.began)) * time.Duration(passed) / time.Duration(all))
		if err := b.measure(w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	if b.chosen(costsKey) {
		if err := b.costs(); err != nil {
			return err
		}
	}
	if b.chosen(growthKey) {
		if err := b.growth(); err != nil {
			return err
		}
	}
	if b.chosen(agesKey) {
		if err := b.ages(); err != nil {
			return err
		}
	}
	return nil
}

// room checks that the images, the vaults and the stores of the peers fit. A file system
// that fills up midway is slow before, and wastes the figures that were measured.
func (b *bench) room(dir string) error {
	if dir == "" {
		dir = os.TempDir()
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return fmt.Errorf("look for room in %s: %w", dir, err)
	}
	need, free := roomPerData*b.scale.data, int64(s.Bavail)*s.Bsize
	if free < need {
		return fmt.Errorf("%d GiB are needed and %s has %d GiB free: make room, or name another folder with --dir", need>>30, dir, free>>30)
	}
	return nil
}

// roomPerData is how much room a run needs at most, by the data of its image: two
// images, a base and a vault, and what six peers make of it.
const roomPerData = 8

// growthKey names the table of costs that grow with the change.
const growthKey = "growth"

func workKeys() []string {
	var keys []string
	for _, w := range new(bench).works() {
		keys = append(keys, w.key)
	}
	return append(keys, costsKey, growthKey, agesKey)
}

// choose checks the names of the works that were asked for.
func (b *bench) choose() error {
	known := "," + strings.Join(workKeys(), ",") + ","
	for key := range strings.SplitSeq(b.only, ",") {
		if key != "" && !strings.Contains(known, ","+key+",") {
			return fmt.Errorf("there is no work %q: want %s", key, strings.Trim(known, ","))
		}
	}
	return nil
}

func (b *bench) chosen(key string) bool {
	return b.only == "" || strings.Contains(","+b.only+",", ","+key+",")
}
