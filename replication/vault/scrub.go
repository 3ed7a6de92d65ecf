package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"riparo/replication"
)

// ScrubOptions are the budget of the scrub.
type ScrubOptions struct {
	// Within is how long a pass over the whole vault may take, and how often one
	// begins; 0 is scrubWithin.
	Within time.Duration
	// BytesPerSecond is the most that is read, whatever Within wants; 0 is no limit.
	BytesPerSecond int64
}

const (
	// scrubWithin: rot is found within a week, the habit of the field.
	scrubWithin = 7 * 24 * time.Hour
	// scrubFloor: below 1 MiB/s a small vault would be read for days without need.
	scrubFloor = 1 << 20
	// scrubHeadroom: a pass aims at 4/5 of its time, since it gives way to senders
	// and the vault grows.
	scrubHeadroom = 1.25
	// yieldAtMost is how long one record waits for senders to pause. A record has at
	// most 8 MiB, so the scrub goes on at 4 MiB/s beside those that never pause.
	yieldAtMost = 2 * time.Second
	yieldStep   = 20 * time.Millisecond
	// scrubSave is how often the position is saved: a restart repeats no more.
	scrubSave = 5 * time.Second
	scrubName = "scrub"
	// maxScrubFile bounds what is read of the file of that name.
	maxScrubFile = 1 << 20
)

// ScrubState is where the scrub is.
type ScrubState struct {
	Running bool
	Began   time.Time // of the pass under way, or of the last one
	Done    int64     // bytes of the pass that were read and checked
	Total   int64     // bytes there were when it began
	Rate    int64     // bytes per second that it may read
	Next    time.Time // when the next pass begins

	Passes         int       // completed since the vault was made
	Completed      time.Time // the last one
	CompletedBytes int64     // that it read

	// Rechecked: damage that was known before a restart was looked for again, or a whole
	// pass was done since. Until then nobody can say that it is gone.
	Rechecked bool
	Trouble   string // why the scrub does not get on; empty when it does
}

// scrub is the state of the scrub.
type scrub struct {
	now chan struct{} // holds a token when a pass is to begin at once
	met chan struct{} // holds a token when somebody met damage that is not saved

	mu    sync.Mutex // guards what follows
	state ScrubState
	at    scrubPosition
	whole bool // the pass under way looks everywhere, but for what is unchecked
	// unchecked is where damage was known before a restart and was not looked for again;
	// unknown says that what was known could not be read.
	unchecked []scrubSuspect
	unknown   bool
}

// scrubPosition is the last segment that the pass under way has done.
type scrubPosition struct {
	disk    replication.DiskID
	segment uint32
}

// scrubFile is the file "scrub": what the scrub remembers over a restart. It is
// derived: without it, the pass begins anew.
type scrubFile struct {
	Running        bool               `json:"running"`
	Began          time.Time          `json:"began"`
	Done           int64              `json:"done"`
	Disk           replication.DiskID `json:"disk"`
	Segment        uint32             `json:"segment"`
	Passes         int                `json:"passes"`
	Completed      time.Time          `json:"completed"`
	CompletedBytes int64              `json:"completed_bytes"`
	// Suspects are the segments in which damage is known.
	Suspects []scrubSuspect `json:"suspects"`
	Unknown  bool           `json:"unknown,omitempty"` // there may be others
}

type scrubSuspect struct {
	Disk    replication.DiskID `json:"disk"`
	Segment uint32             `json:"segment"`
}

// Scrub reads all segments again and again and checks every record, within its
// budget, until ctx ends; it gives way to senders. What it meets is told by
// [Vault.Found]. Its position survives a restart. Only one Scrub may run.
func (v *Vault) Scrub(ctx context.Context, o ScrubOptions) error {
	if err := v.writable(); err != nil {
		return err
	}
	o.Within = cmp.Or(o.Within, scrubWithin)
	s := &v.scrub
	suspects := v.loadScrub()
	all := v.recheck(ctx, o, suspects)
	s.mu.Lock()
	s.state.Rechecked, s.whole = all && !s.unknown, s.whole && all
	s.mu.Unlock()
	for {
		s.mu.Lock()
		if !s.state.Running {
			s.state.Next = s.state.Began.Add(o.Within)
		}
		wait := min(s.state.Next.Sub(v.now()), o.Within) // whatever the clock did
		running := s.state.Running
		s.mu.Unlock()
		if !running && wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return context.Cause(ctx)
			case <-timer.C:
			case <-s.now:
				timer.Stop()
			case <-s.met:
				timer.Stop()
				err := v.saveScrub()
				s.mu.Lock()
				s.state.Trouble = ""
				if err != nil {
					s.state.Trouble = err.Error()
				}
				s.mu.Unlock()
				if err != nil {
					s.noteMet()
					if err := sleep(ctx, time.Minute); err != nil {
						return err
					}
				}
				continue
			}
		}
		err := v.pass(ctx, o)
		if save := v.saveScrub(); err == nil {
			err = save
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.mu.Lock()
		s.state.Trouble = ""
		if err != nil {
			s.state.Trouble = err.Error()
		}
		s.mu.Unlock()
		if err != nil {
			if err := sleep(ctx, time.Minute); err != nil { // the storage may come back
				return err
			}
		}
	}
}

// ScrubNow lets a pass begin at once if none is under way.
func (v *Vault) ScrubNow() {
	select {
	case v.scrub.now <- struct{}{}:
	default:
	}
}

// ScrubState tells where the scrub is.
func (v *Vault) ScrubState() ScrubState {
	v.scrub.mu.Lock()
	defer v.scrub.mu.Unlock()
	return v.scrub.state
}

// pass goes on with the pass under way, or does a new one.
func (v *Vault) pass(ctx context.Context, o ScrubOptions) error {
	s := &v.scrub
	total := int64(0)
	disks := v.list()
	for _, d := range disks {
		stored, _ := d.storedBytes()
		total += stored
	}
	s.mu.Lock()
	if !s.state.Running {
		s.state.Running, s.state.Began, s.state.Done, s.at = true, v.now(), 0, scrubPosition{}
		s.whole = true
	}
	s.state.Total, s.state.Rate = total, scrubRate(total, o)
	at := s.at
	s.mu.Unlock()
	mended := v.mendKeyFiles() // what cannot be mended now holds up nothing
	saved := v.now()
	pace := v.scrubPace(true)
	for _, d := range disks {
		if d.sick != nil || d.id < at.disk {
			continue
		}
		after := uint32(0)
		if d.id == at.disk {
			after = at.segment
		}
		err := v.scrubDisk(ctx, d, pace, func(n uint32) bool { return n > after }, func(n uint32) {
			s.mu.Lock()
			s.at = scrubPosition{d.id, n}
			s.mu.Unlock()
			if now := v.now(); now.Sub(saved) >= scrubSave {
				saved = now
				if err := v.saveScrub(); err != nil {
					s.mu.Lock()
					s.state.Trouble = err.Error()
					s.mu.Unlock()
				}
			}
		})
		if err != nil && !errors.Is(err, replication.ErrUnknownDisk) { // erased meanwhile
			return fmt.Errorf("scrub disk %s: %w", d.id, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Running, s.at = false, scrubPosition{}
	if s.whole {
		s.state.Rechecked, s.unknown = true, false
		// Of disks that could not be opened nobody has looked.
		s.unchecked = slices.DeleteFunc(s.unchecked, func(suspect scrubSuspect) bool { return !v.unopened(suspect.Disk) })
	}
	s.state.Passes++
	s.state.Completed, s.state.CompletedBytes = v.now(), s.state.Done
	return mended
}

// scrubRate is how fast a vault of so many bytes is read.
func scrubRate(total int64, o ScrubOptions) int64 {
	rate := max(scrubFloor, int64(scrubHeadroom*float64(total)/o.Within.Seconds()))
	if o.BytesPerSecond > 0 {
		rate = min(rate, o.BytesPerSecond)
	}
	return rate
}

// scrubPace gives what waits after so many bytes were read, and counts them.
func (v *Vault) scrubPace(count bool) func(context.Context, int64) error {
	debt := time.Duration(0)
	return func(ctx context.Context, n int64) error {
		v.scrub.mu.Lock()
		if count {
			v.scrub.state.Done += n
		}
		rate := v.scrub.state.Rate
		v.scrub.mu.Unlock()
		for waited := time.Duration(0); v.traffic.Load() > 0 && waited < yieldAtMost; waited += yieldStep {
			if err := sleep(ctx, yieldStep); err != nil {
				return err
			}
		}
		debt += time.Duration(float64(n) / float64(rate) * float64(time.Second))
		if debt < yieldStep { // shorter sleeps are less exact than what they are for
			return context.Cause(ctx)
		}
		defer func() { debt = 0 }()
		return sleep(ctx, debt)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// scrubDisk checks those segments of a disk that wanted chooses.
func (v *Vault) scrubDisk(ctx context.Context, d *disk, pace func(context.Context, int64) error, wanted func(uint32) bool, done func(uint32)) error {
	c := check{disk: d, report: &VerifyReport{}, pace: pace}
	numbers, tails, err := c.begin(ctx)
	if err != nil {
		return err
	}
	missing := map[uint32][]Damage{}
	for _, m := range c.report.Damage {
		missing[m.Segment] = append(missing[m.Segment], m)
	}
	d.mu.Lock()
	for n := range d.rotten { // gone since, and nobody needs it
		if !slices.Contains(numbers, n) {
			delete(d.rotten, n)
		}
	}
	for n, list := range missing {
		d.rotten[n] = list
	}
	d.mu.Unlock()
	k := checkers.Get().(*checker) // one: a pass has a week, and the other cores are for senders
	defer checkers.Put(k)
	sound := map[uint32][]replication.Extent{}
	for n := range missing {
		if wanted(n) {
			sound[n] = nil
		}
	}
	for _, n := range numbers {
		if !wanted(n) {
			continue
		}
		c.report, c.bad, c.sound = &VerifyReport{}, nil, nil
		if err := c.segment(ctx, k, n, tails[n]); err != nil {
			return err
		}
		sound[n] = c.sound
		d.met(n, &c)
		if len(c.bad) > 0 || len(c.report.Damage) > 0 {
			// A storage that fails at this is told by the disk itself.
			if err := d.keepFooter(ctx, func(segment uint32) bool { return segment == n }); err != nil && ctx.Err() != nil {
				return err
			}
		}
		done(n)
	}
	return c.scrubNamed(ctx, sound)
}

// met puts what a check of a segment found in the place of what was known of it.
func (d *disk) met(segment uint32, c *check) {
	d.mu.Lock()
	for at, f := range d.damaged {
		again := func(b badBlock) bool { return b.location == at }
		// Where no record leads to, scrubNamed looks.
		if e := f.place(); at.segment == segment && covered(c.sound, &e) && !slices.ContainsFunc(c.bad, again) {
			delete(d.damaged, at) // it can be read after all
		}
	}
	delete(d.rotten, segment)
	for _, damage := range c.report.Damage {
		if !damage.Harmless {
			d.rotten[segment] = append(d.rotten[segment], damage)
		}
	}
	d.mu.Unlock()
	d.remember(c.bad)
}

// noteMet has it saved that damage is known.
func (s *scrub) noteMet() {
	select {
	case s.met <- struct{}{}:
	default:
	}
}

// recheck looks again for damage that was known before a restart, and reports whether it
// came to all of it.
func (v *Vault) recheck(ctx context.Context, o ScrubOptions, suspects []scrubSuspect) (all bool) {
	all = true
	s := &v.scrub
	s.mu.Lock()
	s.state.Rate = max(scrubFloor, o.BytesPerSecond)
	s.mu.Unlock()
	for _, suspect := range suspects {
		d, err := v.find(suspect.Disk)
		if err != nil {
			if !v.unopened(suspect.Disk) {
				s.checked(suspect) // it was erased
			}
			continue // else the opening tells
		}
		err = v.scrubDisk(ctx, d, v.scrubPace(false), func(n uint32) bool { return n == suspect.Segment }, func(uint32) {})
		if err == nil {
			s.checked(suspect)
			continue
		}
		all = false
		s.mu.Lock()
		s.state.Trouble = err.Error()
		s.mu.Unlock()
	}
	return all
}

// checked notes that damage was looked for again where it was known.
func (s *scrub) checked(suspect scrubSuspect) {
	s.mu.Lock()
	s.unchecked = slices.DeleteFunc(s.unchecked, func(other scrubSuspect) bool { return other == suspect })
	s.mu.Unlock()
}

// unopened reports whether there is a disk of the name that could not be opened.
func (v *Vault) unopened(id replication.DiskID) bool {
	d, err := v.findAny(id)
	return err == nil && d.sick != nil
}

// loadScrub reads what was saved. What cannot be read is as if it were not there, but
// then it is not known where damage was: a whole pass has to tell.
func (v *Vault) loadScrub() []scrubSuspect {
	p, err := v.readFile(filepath.Join(v.dir, scrubName), maxScrubFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f scrubFile
	if err == nil {
		f, err = parseScrubFile(p)
	}
	s := &v.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unknown = err != nil || f.Unknown; err != nil {
		return nil
	}
	s.state = ScrubState{Running: f.Running, Began: f.Began, Done: f.Done, Passes: f.Passes, Completed: f.Completed, CompletedBytes: f.CompletedBytes}
	s.at = scrubPosition{f.Disk, f.Segment}
	s.unchecked = slices.Clone(f.Suspects)
	// What was not known began with a pass, and what that met is among the suspects.
	s.whole = f.Running && f.Unknown
	return f.Suspects
}

func parseScrubFile(p []byte) (f scrubFile, err error) {
	text, sum, ok := strings.Cut(string(p), "\n")
	if want, err := strconv.ParseUint(strings.TrimSpace(sum), 16, 32); !ok || err != nil || uint64(checksum([]byte(text))) != want {
		return f, errScrubFile
	}
	if json.Unmarshal([]byte(text), &f) != nil || f.Done < 0 || f.Done > math.MaxInt64/2 {
		return f, errScrubFile
	}
	return f, nil
}

var errScrubFile = errors.New("what the scrub remembers is damaged")

func (v *Vault) saveScrub() error {
	s := &v.scrub
	s.mu.Lock()
	f := scrubFile{Running: s.state.Running, Began: s.state.Began, Done: s.state.Done, Disk: s.at.disk, Segment: s.at.segment,
		Passes: s.state.Passes, Completed: s.state.Completed, CompletedBytes: s.state.CompletedBytes, Suspects: []scrubSuspect{}, Unknown: s.unknown}
	f.Suspects = append(f.Suspects, s.unchecked...)
	s.mu.Unlock()
	for _, d := range v.list() {
		known := map[uint32]bool{}
		d.mu.Lock()
		for at := range d.damaged {
			known[at.segment] = true
		}
		for n := range d.rotten {
			known[n] = true
		}
		d.mu.Unlock()
		for n := range known {
			if suspect := (scrubSuspect{d.id, n}); !slices.Contains(f.Suspects, suspect) {
				f.Suspects = append(f.Suspects, suspect)
			}
		}
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := v.replaceFile(v.dir, scrubName, fmt.Appendf(text, "\n%08x\n", checksum(text))); err != nil {
		return fmt.Errorf("save where the scrub is: %w", err)
	}
	return nil
}
