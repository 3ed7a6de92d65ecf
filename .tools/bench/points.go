package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// age is the time to the first byte of a disk with many points.
type age struct {
	Points int                  `json:"points"`
	First  map[string][]float64 `json:"first_byte_seconds"` // by which point: oldest, middle, newest
}

var agePoints = []string{"oldest", "middle", "newest"}

const (
	// ageRounds are cheap: one takes a fraction of a second.
	ageRounds = 5
	agesKey   = "points"
)

// ages measures the first 4 KiB of the oldest, the middle and the newest point of disks
// with more and more points, through NBD, from the start of the program on.
func (b *bench) ages() error {
	for _, tool := range []string{"qemu-io", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintf(os.Stderr, "left out: the first byte of many points, for want of %s\n", tool)
			return nil
		}
	}
	for _, count := range b.scale.points {
		fmt.Fprintf(os.Stderr, "%5.0f s  measuring: the first byte of %d points\n", time.Since(b.began).Seconds(), count)
		a, err := b.age(count)
		if err != nil {
			return fmt.Errorf("the first byte of %d points: %w", count, err)
		}
		b.aged = append(b.aged, a)
	}
	return nil
}

func (b *bench) age(count int) (a age, err error) {
	folder := b.path("base-vault")
	defer func() {
		if e := os.RemoveAll(folder); err == nil {
			err = e
		}
	}()
	if err := os.RemoveAll(folder); err != nil {
		return a, err
	}
	house, err := filepath.Abs(".")
	if err != nil {
		return a, err
	}
	// The program takes a tenth of a second for a point; the package that keeps them
	// takes them all in a second or two.
	c := exec.Command("go", "test", "-count=1", "-run", "^TestADiskIsMadeWithManyPoints$", "./replication/vault")
	c.Dir, c.Env = house, append(os.Environ(), "RIPARO_MANY_POINTS="+fmt.Sprint(count), "RIPARO_MANY_IN="+folder)
	if out, err := c.CombinedOutput(); err != nil {
		return a, fmt.Errorf("make the points: %w\n%s", err, tail(string(out)))
	}
	a = age{Points: count, First: map[string][]float64{}}
	const read = `qemu-io -r -f raw -c "read 0 4k" "nbd+unix:///?socket=$DIR/s"`
	for round := range ageRounds + 1 {
		for i, which := range agePoints {
			point := fmt.Sprintf("p%06d", i*(count-1)/2)
			serve := `coproc "$RIPARO" disk serve --vault "$BASE" --disk d --point ` + point + ` --socket "$DIR/s"; read -r _ <&"${COPROC[0]}"; p=$COPROC_PID; `
			done := `; date +%s.%N; ` + endOurs
			began := time.Now()
			o, err := b.sh(&work{}, serve+read+done)
			if err != nil {
				return a, err
			}
			first, err := sinceStart(began, o.output)
			if err != nil {
				return a, err
			}
			if round > 0 { // the first one fills the page cache
				a.First[which] = append(a.First[which], first)
			}
		}
	}
	return a, nil
}

// sinceStart tells how long after the start a command printed the time, the last thing
// that it said.
func sinceStart(began time.Time, output string) (float64, error) {
	var last float64
	for _, line := range strings.Split(output, "\n") {
		var t float64
		if n, err := fmt.Sscanf(line, "%f", &t); n == 1 && err == nil && t > 1e9 {
			last = t
		}
	}
	if last == 0 {
		return 0, fmt.Errorf("no time in what was printed:\n%s", tail(output))
	}
	return last - float64(began.UnixNano())/1e9, nil
}
