package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
)

const (
	// runEntries is how many entries memory may hold before they are written to a
	// map file, and how many entries a file with several layers may have: 32,768
	// entries are 1.8 MiB, and 2 GiB of a disk that is written once.
	runEntries = 32 << 10
	// runLayers bounds the layers in memory of a disk that hardly changes.
	runLayers = 4096
	// foldWidth is how many files are folded into one. A view looks into at most
	// foldWidth-1 files per level.
	foldWidth = 8
	// tidyLayers: so many layers of dropped points in a file, and as many as it keeps,
	// are worth a rewrite.
	tidyLayers = 16
	// tidyShare: files are written anew when half of their entries may cover others,
	// which are taken for needed until then; so an entry is not written often.
	tidyShare = 2
	// thoroughShare is the same before compaction: an entry of 56 bytes is written more
	// cheaply than the block that nobody needs is moved.
	thoroughShare = 8
)

// memoryFull reports whether memory is to be written to a map file. The caller holds mu.
func (d *disk) memoryFull() bool {
	return d.memory.entries >= d.vault.options.memoryEntries || len(d.memory.layers) >= runLayers
}

// spill writes memory to a map file when it has grown too large, or in any case.
// The caller leads, and does not hold mu.
func (d *disk) spill(always bool) error {
	d.mu.Lock()
	if len(d.memory.layers) == 0 || !always && !d.memoryFull() {
		d.mu.Unlock()
		return nil
	}
	layers := slices.Clone(d.memory.layers)
	for i, l := range layers {
		c := *l
		layers[i] = &c
	}
	from, to, mapped := serial(0), layers[len(layers)-1].last, d.serial
	if n := len(d.tiles); n > 0 {
		from = d.tiles[n-1].upTo
	}
	d.nextMap++
	number := d.nextMap
	d.mu.Unlock()

	var parts []part
	for _, l := range layers {
		parts = append(parts, part{last: l.last, flows: func() ([]flow, error) { return []flow{&listFlow{list: flatten(l.maps)}}, nil }})
	}
	m, err := d.writeMap(number, from, to, parts)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(layers); !layers[n-1].closed {
		changed, stored := measure(layers[n-1].maps)
		d.openChanged += changed
		d.openStored += stored
	}
	d.memory, d.injected = memory{}, false
	d.tiles = append(d.tiles, tile{m, to})
	d.mapped = mapped
	return nil
}

// flush writes memory to a map file.
func (d *disk) flush(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	d.mu.Unlock()
	defer d.mu.Lock()
	if err := d.spill(true); err != nil {
		return writeProblem(d.id, err)
	}
	return d.writeCatalog()
}

// part is what one layer of a new map file is made of.
type part struct {
	last  serial
	flows func() ([]flow, error) // oldest first
}

// writeMap writes a map file of parts, the oldest first.
func (d *disk) writeMap(number uint32, from, to serial, parts []part) (*mapFile, error) {
	w, err := d.newMapWriter(number, from, to)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		w.layer(p.last)
		if err := each([]part{p}, w.add); err != nil {
			return nil, w.abandon(err)
		}
	}
	if len(parts) > 1 {
		w.merged()
		if err := each(parts, w.addMerged); err != nil {
			return nil, w.abandon(err)
		}
	}
	return w.finish()
}

// each calls add for the entries of parts laid over each other.
func each(parts []part, add func(*entry)) error {
	var flows []flow
	for _, p := range parts {
		list, err := p.flows()
		if err != nil {
			return err
		}
		flows = append(flows, list...)
	}
	f := mergeFlows(flows)
	for f.advance() {
		add(f.value())
	}
	return f.failed()
}

// maintain keeps the map of the disk small and quick, and frees what is dead, until
// nothing is left to do.
func (d *disk) maintain(ctx context.Context) error {
	if err := d.alone(ctx); err != nil {
		return err
	}
	defer d.release()
	return d.order(ctx)
}

// maintainNow is maintain unless somebody maintains the disk, which may be a compaction
// that goes on for hours. Who does asks for another maintenance in the end.
func (d *disk) maintainNow(ctx context.Context) error {
	d.passed.Store(true)
	select {
	case d.maintaining <- struct{}{}:
		d.passed.Store(false)
	default:
		return errMaintained
	}
	defer d.release()
	return d.order(ctx)
}

// errMaintained: somebody else maintains the disk.
var errMaintained = errors.New("it is being maintained")

// release lets others maintain the disk.
func (d *disk) release() {
	<-d.maintaining
	if d.passed.Swap(false) {
		d.vault.nudge(d)
	}
}

// alone waits until nobody maintains the disk. The caller releases it.
func (d *disk) alone(ctx context.Context) error {
	select {
	case d.maintaining <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// order does what maintain says. The caller maintains alone.
func (d *disk) order(ctx context.Context) error {
	err := d.putInOrder(ctx)
	if err != nil && d.vault.spend(err) {
		err = d.putInOrder(ctx)
	}
	return err
}

func (d *disk) putInOrder(ctx context.Context) error {
	d.mu.Lock()
	err := d.usable()
	injected := d.injected && !d.vault.options.ReadOnly
	d.mu.Unlock()
	if err == nil && injected { // there was no room for it when the disk was opened
		err = d.flush(ctx)
	}
	if err != nil {
		return err
	}
	changed := false
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		did, err := d.tidy()
		if err == nil && !did {
			did, err = d.fold()
		}
		if err != nil {
			return d.mapProblem(err)
		}
		if !did {
			break
		}
		changed = true
	}
	if err := d.sweep(ctx, changed); err != nil {
		return err
	}
	return d.dropKeys()
}

// retained reports whether a serial is the mark of a point. The caller holds mu.
func (s *state) retained(at serial) bool {
	i := sort.Search(len(s.points), func(i int) bool { return s.points[i].serial >= at })
	return i < len(s.points) && s.points[i].serial == at
}

// mapProblem marks the maps of the disk as not to be trusted if err says that one of
// them is damaged: the next opening makes them again from the log.
func (d *disk) mapProblem(err error) error {
	if m, ok := errors.AsType[*mapError](err); ok {
		return d.distrust(fmt.Errorf("disk %s: %w", d.id, m))
	}
	return err
}
