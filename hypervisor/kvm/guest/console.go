package guest

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Modes of the guest, for [Append].
const (
	Count  = "counter"
	Verify = "verify"
	Up     = "up"
	Idle   = "idle"
)

// Append is a kernel command line that makes the guest do mode; more are further
// words, such as "port=18999" or "pause=20".
func Append(mode string, more ...string) string {
	return strings.Join(append([]string{"console=ttyS0", "quiet", "panic=-1", "mode=" + mode}, more...), " ")
}

// lines are what the guest printed for programs, without the mark and the time.
func lines(console []byte) []string {
	var out []string
	for line := range strings.Lines(string(console)) {
		// The kernel may print in the middle of a line; what follows the mark counts.
		_, text, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "@@ ")
		if !ok || !strings.HasSuffix(line, "\n") {
			continue
		}
		if _, said, ok := strings.Cut(text, " "); ok {
			out = append(out, said)
		}
	}
	return out
}

// Said is the rest of the last line that begins with the words, and whether there
// is one. Said(console, "NET") may give "blocked".
func Said(console []byte, words string) (string, bool) {
	found, ok := "", false
	for _, line := range lines(console) {
		if line == words {
			found, ok = "", true
		} else if rest, is := strings.CutPrefix(line, words+" "); is {
			found, ok = rest, true
		}
	}
	return found, ok
}

// Counter is the last count that the guest reported as synced on all its disks.
func Counter(console []byte) (n int, ok bool) {
	text, ok := Said(console, "C")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// Findings are what mode=verify says of a machine's disks.
type Findings struct {
	Done      bool           // it came to the end
	Counters  map[string]int // by disk; a disk without a counter is missing
	Files     int            // that were checked against their checksums
	Bad       int            // of these, how many differ
	LogLines  int            // equals LogLast when no line is missing
	LogLast   int
	Recovered map[string]bool   // by disk: mounting replayed the journal
	RawFsck   map[string]int    // e2fsck's exit status before mounting
	Fsck      map[string]int    // and after
	Serials   map[string]string // by disk, as the guest sees them
	Sizes     map[string]int64
}

var countLine = regexp.MustCompile(`^COUNTER (\d+) lines (\d+) last (\d*)$`)

// ReadFindings reads the console of a machine that booted with mode=verify.
func ReadFindings(console []byte) Findings {
	f := Findings{
		Counters: map[string]int{}, Recovered: map[string]bool{}, RawFsck: map[string]int{},
		Fsck: map[string]int{}, Serials: map[string]string{}, Sizes: map[string]int64{},
	}
	for _, line := range lines(console) {
		word := strings.Fields(line)
		if len(word) == 0 {
			continue
		}
		switch {
		case word[0] == "DONE":
			f.Done = true
		case word[0] == "DISK" && len(word) >= 3:
			f.Sizes[word[1]], _ = strconv.ParseInt(word[2], 10, 64)
			if len(word) == 4 {
				f.Serials[word[1]] = word[3]
			}
		case word[0] == "MOUNTED" && len(word) == 4:
			f.Recovered[word[1]] = word[3] == "recovered"
		case word[0] == "COUNTER":
			if m := countLine.FindStringSubmatch(line); m != nil {
				f.Counters["vda"], _ = strconv.Atoi(m[1])
				f.LogLines, _ = strconv.Atoi(m[2])
				f.LogLast, _ = strconv.Atoi(m[3])
			} else if len(word) == 3 {
				if n, err := strconv.Atoi(word[2]); err == nil {
					f.Counters[word[1]] = n
				}
			}
		case word[0] == "FILES" && len(word) == 4:
			f.Files, _ = strconv.Atoi(word[1])
			f.Bad, _ = strconv.Atoi(word[3])
		case (word[0] == "RAWFSCK" || word[0] == "FSCK") && len(word) == 3:
			status, err := strconv.Atoi(strings.TrimPrefix(word[2], "rc="))
			if err != nil {
				status = -1
			}
			if word[0] == "FSCK" {
				f.Fsck[word[1]] = status
			} else {
				f.RawFsck[word[1]] = status
			}
		}
	}
	return f
}

// lookAgain is how often WaitLine reads the console: often enough to measure a boot
// to a tenth of a second.
const lookAgain = 30 * time.Millisecond

// WaitLine waits until the console holds a whole line with the substring and
// returns the console as it was then. When ctx ends first, the error carries the
// end of the console.
func WaitLine(ctx context.Context, read func() []byte, substring string) ([]byte, error) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		console := read()
		if i := bytes.LastIndex(console, []byte(substring)); i >= 0 && bytes.IndexByte(console[i:], '\n') >= 0 {
			return console, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return console, fmt.Errorf("the guest did not print %q: %w; its console ends in %q", substring, context.Cause(ctx), tail(console, 400))
		}
	}
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
