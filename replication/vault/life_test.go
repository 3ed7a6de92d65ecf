package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// life is one vault on a simulated disk that loses its power again and again.
type life struct {
	seed    uint64
	ctx     context.Context
	random  *rand.Rand
	keyed   *rand.ChaCha8 // draws the keys of the vault
	disk    *vfs.Sim
	vault   *Vault
	model   *model   // after all that was acknowledged
	later   []*model // after what was under way, one more step each
	points  int
	segment int64 // bytes of a segment
	clock   time.Time
	held    []heldView
	cuts    int
	calm    bool // no step cuts the power by itself
	torn    bool // the power goes while several batches are written
	masters int  // how often the master key was changed
	habits  habits
	faults  map[string]int
	trace   []string
}

// heldView is a view that stays open while the vault changes.
type heldView struct {
	view *View
	want []byte
}

// habits differ from life to life, so that some do often what others hardly do: a
// fault that needs several rare things in a row is met much sooner.
type habits struct {
	zeroes   int // changes in ten that are zero
	compact  int // steps in a hundred that compact, beside the usual ones
	maintain int // steps in a hundred that maintain, beside the usual ones
	whole    int // of so many writes one is torn
	fragile  int // openings in eight in which an fsync fails
}

func newLife(ctx context.Context, seed uint64) *life {
	l := &life{
		segment: 16<<10 + int64(seed%2)*(32<<10), ctx: ctx, seed: seed, random: rand.New(rand.NewPCG(seed, 7)), keyed: rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)}), disk: vfs.NewSim(seed), model: newModel(),
		clock: time.Unix(1_800_000_000, 0).UTC(), faults: map[string]int{}, habits: habits{zeroes: 2, whole: 15, fragile: 2},
	}
	if l.random.IntN(3) == 0 {
		l.habits.zeroes = 7
	}
	if l.random.IntN(3) == 0 {
		l.habits.maintain = 15
	}
	if l.random.IntN(3) == 0 {
		l.habits.compact = 20
	}
	if l.random.IntN(3) == 0 {
		l.habits.whole = 4
	}
	if l.random.IntN(4) == 0 {
		l.habits.fragile = 6
	}
	return l
}

func (l *life) note(format string, args ...any) {
	l.trace = append(l.trace, fmt.Sprintf(format, args...))
}

func (l *life) options() Options {
	opened := l.clock
	return keyed(Options{
		Create: true, Keys: l.keys(), Clock: func() time.Time { l.clock = l.clock.Add(time.Second); return l.clock },
		uptime: func() time.Duration { return l.clock.Sub(opened) }, randomness: l.keyed,
		segmentBytes: l.segment, memoryEntries: 12, eager: true, manual: true,
		Compression: Compressions[len(l.trace)%len(Compressions)],
	})
}

// run lives until the power was cut a number of times.
func (l *life) run(boots int) error {
	for range boots {
		if err := l.boot(); err != nil {
			return err
		}
		l.arm()
		for {
			err := l.step()
			if err == nil && *everyStep {
				if err := l.model.matches(l.ctx, l.vault); err != nil && !l.disk.PowerIsCut() {
					return fmt.Errorf("%w after a step: %w", errViolation, err)
				}
			}
			if err == nil {
				continue
			}
			if l.disk.PowerIsCut() {
				if !errors.Is(err, vfs.ErrPowerCut) && replication.AsProblem(err).Code != CodeBroken {
					return fmt.Errorf("after the power cut: %w", err)
				}
				break
			}
			if errors.Is(err, errViolation) {
				return err
			}
			if errors.Is(err, vfs.ErrIO) {
				// The storage failed once. The vault must be opened again.
				l.note("broken: %v", err)
				l.faults["eio"]++
				l.shut()
				if l.random.IntN(2) == 0 {
					l.disk.Evict()
				}
				if err := l.boot(); err != nil {
					return err
				}
				l.arm()
				continue
			}
			return fmt.Errorf("without a fault: %w", err)
		}
		l.shut()
		if err := l.restart(); err != nil {
			return err
		}
		l.note("power cut")
	}
	return l.boot()
}

// arm chooses when the power goes next, and sometimes an fsync that fails.
func (l *life) arm() {
	l.disk.CutPower(l.random.IntN(120))
	if l.random.IntN(8) == 0 {
		l.disk.FailSync(l.random.IntN(20))
	}
}

// shut drops the vault without telling it: a process that ends.
func (l *life) shut() {
	for _, h := range l.held {
		h.view.Close()
	}
	l.held = nil
	if l.vault != nil {
		l.vault.kill()
		l.vault = nil
	}
}

var errKilled = errors.New("killed")

// kill lets go of the lock and the handles without writing anything.
func (v *Vault) kill() {
	for _, d := range inOrder(v.disks) {
		d.mu.Lock()
		d.broken = cmp.Or(d.broken, errKilled) // closing it leaves nothing behind
		d.mu.Unlock()
		d.log.close()
	}
	if v.lock != nil {
		v.lock.Close()
	}
}

// boot opens the vault, perhaps with more cuts while it recovers, and compares it
// with the model.
func (l *life) boot() error {
	l.shut()
	if l.disk.PowerIsCut() { // while views were closed
		if err := l.restart(); err != nil {
			return err
		}
	}
	if l.random.IntN(5) == 0 {
		l.disk.CutPower(1 << 30)
		l.disk.FailSyncDir(1 << 30)
		if err := l.loseCatalogs(); err != nil {
			return err
		}
	}
	for {
		switch {
		case l.torn: // what was torn is written again: the place to look at
			l.torn = false
			l.disk.CutPower(5 + l.random.IntN(6))
		case l.random.IntN(2) == 0:
			l.disk.CutPower(l.random.IntN(25))
		}
		l.hurt(l.habits.fragile, 8, 6)
		v, err := Open(l.ctx, l.disk, "v", l.options())
		l.disk.SetCapacity(0)
		if failed := err; !l.disk.PowerIsCut() {
			if err == nil {
				failed = v.failedOpening()
			}
			if errors.Is(failed, vfs.ErrNoSpace) && err != nil {
				l.faults["full in recovery"]++
				continue
			}
			if errors.Is(failed, vfs.ErrNoSpace) || err == nil && v.roomless() {
				l.note("no room in recovery: %v", failed)
				l.faults["full in recovery"]++
				if failed == nil {
					if err := l.showsAny(v); err != nil {
						return err
					}
				}
				// There is room again, and who wants to write finds it.
				failed = nil
				for _, id := range slices.Sorted(maps.Keys(v.disks)) { // in map order a seed is two lives
					_, err := v.findToWrite(l.ctx, id)
					failed = errors.Join(failed, err) // that one is unknown hides no failure of another
				}
			}
			if errors.Is(failed, vfs.ErrIO) {
				l.note("an fsync failed in recovery: %v", failed)
				l.faults["eio in recovery"]++
				l.vault = v
				l.shut()
				if l.random.IntN(2) == 0 {
					l.disk.Evict()
				}
				continue
			}
		}
		if err != nil && l.disk.PowerIsCut() {
			if err := l.restart(); err != nil {
				return err
			}
			l.faults["cut in recovery"]++
			l.note("power cut in recovery")
			continue
		}
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		l.vault = v
		if l.disk.PowerIsCut() {
			l.shut()
			if err := l.restart(); err != nil {
				return err
			}
			l.faults["cut in recovery"]++
			l.note("power cut in recovery")
			continue
		}
		break
	}
	l.disk.CutPower(1 << 30) // not while it is compared
	l.disk.FailSync(1 << 30)
	l.disk.FailSyncDir(1 << 30)
	m, err := l.shown(l.vault)
	if err != nil {
		return err
	}
	l.model, l.later = m, nil
	if l.cuts%onlookEvery == 0 {
		return l.sound(l.vault)
	}
	return nil
}

// shown is what the vault shows: what was acknowledged, or also what was under way.
func (l *life) shown(v *Vault) (*model, error) {
	first := l.model.matches(l.ctx, v)
	if first == nil {
		return l.model, nil
	}
	reasons := []error{first}
	for _, m := range l.later {
		err := m.matches(l.ctx, v)
		if err == nil {
			return m, nil
		}
		reasons = append(reasons, fmt.Errorf("with what was under way: %w", err))
	}
	return nil, fmt.Errorf("%w after recovery: %w", errViolation, errors.Join(reasons...))
}

// showsAny is for a vault without room: it can be read, and promises nothing of what was
// under way.
func (l *life) showsAny(v *Vault) error {
	_, err := l.shown(v)
	if err == nil && l.cuts%onlookEvery == 0 {
		err = l.sound(v)
	}
	if l.disk.PowerIsCut() {
		return nil
	}
	return err
}

// roomless reports whether a disk of the vault was opened without room.
func (v *Vault) roomless() bool {
	for _, d := range inOrder(v.disks) {
		if d.roomless {
			return true
		}
	}
	return false
}

// hurt lets something happen to the storage soon, n times in of: an fsync of a file or
// of a folder fails, one of the next several, or there is little room.
func (l *life) hurt(n, of, soon int) {
	if l.random.IntN(of) >= n {
		return
	}
	switch l.random.IntN(5) {
	case 0, 1:
		l.disk.FailSync(l.random.IntN(soon))
	case 2, 3:
		l.disk.FailSyncDir(l.random.IntN(soon))
	default:
		if space, err := l.disk.Space("v"); err == nil {
			l.disk.SetCapacity(space.Total - space.Free + int64(l.random.IntN(12_000)))
		}
	}
}

// upkeep does what the vault does in the background, on storage that may fail. A failure
// after which the disk goes on is none.
func (l *life) upkeep(id replication.DiskID, work func() error) error {
	if !l.calm {
		l.hurt(1, 3, 4)
	}
	err := work()
	l.disk.SetCapacity(0)
	if l.disk.PowerIsCut() || l.vault.disks[id] == nil {
		return err
	}
	switch {
	case errors.Is(err, vfs.ErrNoSpace):
		l.note("no room: %v", err)
		l.faults["full in upkeep"]++
		return nil
	case errors.Is(err, vfs.ErrIO) && l.vault.disks[id].broken == nil:
		l.note("an fsync failed: %v", err)
		l.faults["eio in upkeep, and on"]++
		return nil
	case errors.Is(err, vfs.ErrIO):
		l.faults["eio in upkeep"]++
	}
	return err
}

// failedOpening is why a disk of the vault could not be opened.
func (v *Vault) failedOpening() error {
	for _, d := range inOrder(v.disks) {
		if d.sick != nil {
			return d.sick
		}
	}
	return nil
}

// loseCatalogs removes what can be made again from the log, so that it is.
func (l *life) loseCatalogs() error {
	names, _ := l.disk.Files()
	for _, name := range names {
		if filepath.Base(name) == catalogName {
			if err := l.disk.Remove(name); err != nil {
				return err
			}
			if err := l.disk.SyncDir(filepath.Dir(name)); err != nil {
				return err
			}
			l.faults["catalog lost"]++
		}
	}
	return nil
}

// try runs an operation that leads from the model to next.
func (l *life) try(what string, next *model, operation func() error) error {
	l.note("%s", what)
	l.later = append(l.later, next)
	if err := operation(); err != nil {
		return err
	}
	l.model, l.later = next, nil
	return nil
}
