package blockcut

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// system is a file system of the tests.
type system struct {
	name  string
	mount string // options
	make  []string
	bytes int64 // of the disk; xfs takes no less
	share int   // of the images, in tenths
	// repair is what the file system asks for when it cannot be mounted. The superblock
	// of ext4 is two sectors long, is written in its place, and may be torn.
	repair []string
}

var systems = []system{
	{"ext4", "rw", []string{"mkfs.ext4", "-q", "-F"}, 64 << 20, 7, []string{"e2fsck", "-fy"}},
	// Two images of one trace are mounted at a time, and xfs is asked to bear it.
	{"xfs", "nouuid", []string{"mkfs.xfs", "-q", "-f"}, 300 << 20, 3, nil},
}

const (
	// replications of one trace; each makes a point.
	replications = 8
	sourceBytes  = 1 << 20
	// imagesOfTrace, at most: then another trace is made, with another seed.
	imagesOfTrace = 250
)

// TestWhatWasAnnouncedSurvivesAnyCutOfTheDisk makes cut images, 40 or as many as the
// environment variable RIPARO_IMAGES says, and as RIPARO_TIME, as 15m, leaves time for.
func TestWhatWasAnnouncedSurvivesAnyCutOfTheDisk(t *testing.T) {
	need(t, "mkfs.ext4", "mkfs.xfs")
	images, until := 40, time.Now().Add(24*time.Hour)
	if text := os.Getenv("RIPARO_IMAGES"); text != "" {
		var err error
		if images, err = strconv.Atoi(text); err != nil {
			t.Fatalf("RIPARO_IMAGES: %v", err)
		}
	}
	if text := os.Getenv("RIPARO_TIME"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("RIPARO_TIME: %v", err)
		}
		until = time.Now().Add(d)
	}
	binary := program(t, false)
	left := 10 // tenths
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) {
			want := images * s.share / 10
			end := time.Now().Add(time.Until(until) * time.Duration(s.share) / time.Duration(left))
			left -= s.share
			done, repaired := 0, int64(0)
			for seed := uint64(1); done < want && time.Now().Before(end); seed++ {
				w := record(t, s, binary, seed)
				n, err := w.cuts(t, min(want-done, imagesOfTrace), end)
				repaired += w.repaired.Load()
				if done += n; err != nil {
					t.Fatalf("seed %d, image %d: %v", seed, n, err)
				}
				t.Logf("seed %d: %d writes, %d flushes, %d points and %d policies announced", seed, w.count(written), w.count(flushed), len(w.points), w.policies)
			}
			t.Logf("%d cut images of %s, 0 violations; the file system of %d had to be repaired first", done, s.name, repaired)
		})
	}
}

func TestAPointThatIsAnnouncedBeforeFsyncIsFound(t *testing.T) {
	need(t, "mkfs.ext4")
	w := record(t, systems[0], program(t, true), 1)
	n, err := w.cuts(t, 200, time.Now().Add(10*time.Minute))
	if err == nil {
		t.Fatalf("%d cut images of a program that announces points before they are safe, and all is well", n)
	}
	t.Logf("a point is announced before fsync: found by TestWhatWasAnnouncedSurvivesAnyCutOfTheDisk with seed %d", n+1)
	t.Logf("1/1 planted bugs found, worst %d seeds (block-level cut image): %v", n+1, err)
}

// world is a trace with all that is needed to judge its cuts.
type world struct {
	system
	binary, key string
	seed        uint64
	base        *picture // the disk when the trace began
	events      []event
	points      []string // by note
	contents    [][]byte // of the points
	policies    int      // notes beyond the points
	repaired    atomic.Int64
}

// policyNotes: notes from here on are policies.
const policyNotes = 1000

func policyName(n int) string { return fmt.Sprintf("policy-of-cut-%d", n) }

// record lets the program work on a traced disk.
func record(t *testing.T, s system, binary string, seed uint64) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{system: s, binary: binary, seed: seed, key: filepath.Join(dir, "master.key")}
	image, front, mount := filepath.Join(dir, "image"), filepath.Join(dir, "front"), filepath.Join(dir, "mount")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(s.bytes), os.Mkdir(front, 0o700), os.Mkdir(mount, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := command(s.make[0], append(s.make[1:], image)...); err != nil {
		t.Fatal(err)
	}
	if w.base, err = pictureOf(image); err != nil {
		t.Fatal(err)
	}
	var trace Trace
	server, err := serve(front, f, &trace)
	if err != nil {
		t.Skipf("a file system in user space cannot be mounted here: %v", err)
	}
	err = w.mounted(filepath.Join(front, "disk"), mount, func() error { return w.work(mount, dir, &trace) })
	if err := errors.Join(err, server.Unmount(), trace.fault); err != nil {
		t.Fatal(err)
	}
	w.events = trace.events
	return w
}

// work replicates a disk that changes, and saves policies in a daemon.
func (w *world) work(mount, dir string, trace *Trace) (err error) {
	d, err := startDaemon(w.binary, filepath.Join(mount, "data"), dir)
	if err != nil {
		return err
	}
	defer d.kill()
	r := rand.New(rand.NewPCG(w.seed, 5))
	content, source := make([]byte, sourceBytes), filepath.Join(dir, "source")
	for n := range replications {
		for range 1 + r.IntN(4) {
			at, length := r.IntN(sourceBytes/4096)*4096, 4096*(1+r.IntN(32))
			part := content[at:min(at+length, sourceBytes)]
			for i := range part {
				part[i] = byte(r.Uint32())
			}
		}
		if err := os.WriteFile(source, content, 0o600); err != nil {
			return err
		}
		out, err := riparo(w.binary, "disk", "replicate", source, "--vault", filepath.Join(mount, "vault"), "--disk", "d", "--key", w.key, "--json")
		if err != nil {
			return err
		}
		var made struct {
			Point string `json:"point"`
		}
		if err := json.Unmarshal(out, &made); err != nil || made.Point == "" {
			return fmt.Errorf("no point in %q: %v", out, err)
		}
		trace.Note(n)
		w.points, w.contents = append(w.points, made.Point), append(w.contents, slices.Clone(content))
		if err := d.savePolicy(policyName(n)); err != nil {
			return err
		}
		trace.Note(policyNotes + n)
		w.policies++
	}
	return nil
}

func (w *world) count(k kind) (n int) {
	for _, e := range w.events {
		if e.kind == k {
			n++
		}
	}
	return n
}

// moments are the places of cuts, ascending: half of them right behind an announcement,
// when what was promised is youngest, and none before the first.
func (w *world) moments(n int, r *rand.Rand) []int {
	var notes []int
	for i, e := range w.events {
		if e.kind == noted {
			notes = append(notes, i+1)
		}
	}
	var ends []int
	for i := range n {
		if i%2 == 0 {
			ends = append(ends, notes[r.IntN(len(notes))])
		} else {
			ends = append(ends, notes[0]+r.IntN(len(w.events)-notes[0]+1))
		}
	}
	slices.Sort(ends)
	return ends
}

// cuts makes n images and judges each, on every processor one at a time. It gives how
// many were found to be good.
func (w *world) cuts(t *testing.T, n int, until time.Time) (good int, violation error) {
	r := rand.New(rand.NewPCG(w.seed, 9))
	c := cutter{events: w.events, image: w.base.clone()}
	var mu sync.Mutex // guards the results
	var judges sync.WaitGroup
	type image struct {
		content *picture
		notes   []int
		what    string
	}
	images := make(chan image)
	for range 2 {
		dir := t.TempDir()
		judges.Go(func() {
			for i := range images {
				err := w.judge(dir, i.content, i.notes)
				mu.Lock()
				if err == nil {
					good++
				} else if violation == nil {
					violation = fmt.Errorf("%s: %w", i.what, err)
				}
				mu.Unlock()
			}
		})
	}
	for _, end := range w.moments(n, r) {
		mu.Lock()
		enough := violation != nil
		mu.Unlock()
		if enough || time.Now().After(until) {
			break
		}
		content, way := c.cut(end, r)
		images <- image{content, slices.Clone(c.notes), fmt.Sprintf("cut at event %d of %d, way %d", end, len(w.events), way)}
	}
	close(images)
	judges.Wait()
	return good, violation
}

// judge mounts an image and looks at what was announced before the cut.
func (w *world) judge(dir string, content *picture, notes []int) error {
	file, mount := filepath.Join(dir, "cut"), filepath.Join(dir, "mount")
	if err := errors.Join(os.MkdirAll(mount, 0o700), content.save(file)); err != nil {
		return err
	}
	return w.mounted(file, mount, func() error {
		vault := []string{"--vault", filepath.Join(mount, "vault"), "--key", w.key}
		if _, err := riparo(w.binary, append([]string{"disk", "verify"}, vault...)...); err != nil {
			return fmt.Errorf("VIOLATION: %w", err)
		}
		for _, n := range notes {
			if n >= policyNotes {
				continue
			}
			out := filepath.Join(dir, "point")
			os.Remove(out)
			if _, err := riparo(w.binary, append([]string{"disk", "export", out, "--disk", "d", "--point", w.points[n]}, vault...)...); err != nil {
				return fmt.Errorf("VIOLATION: point %d was announced: %w", n, err)
			}
			if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, w.contents[n]) {
				return fmt.Errorf("VIOLATION: point %d is a mixture: %d bytes, %v", n, len(got), err)
			}
		}
		return judgeState(filepath.Join(mount, "data", "state.db"), notes)
	})
}

// judgeState checks the database of the daemon, and that each policy is in it.
func judgeState(path string, notes []int) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("VIOLATION: open state.db: %w", err)
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return fmt.Errorf("VIOLATION: state.db: %w", err)
		}
		var all bytes.Buffer
		if err := tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return gather(b, &all) }); err != nil {
			return fmt.Errorf("VIOLATION: read state.db: %w", err)
		}
		for _, n := range notes {
			if n >= policyNotes && !bytes.Contains(all.Bytes(), []byte(`"`+policyName(n-policyNotes)+`"`)) {
				return fmt.Errorf("VIOLATION: %s was saved and is not in state.db", policyName(n-policyNotes))
			}
		}
		return nil
	})
}

func gather(b *bbolt.Bucket, to *bytes.Buffer) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return gather(b.Bucket(k), to)
		}
		to.Write(v)
		to.WriteByte('\n')
		return nil
	})
}
