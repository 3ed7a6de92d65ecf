package nbd

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"riparo/replication"
)

// Writer takes what clients write to an export. WriteAt and Zero may be called
// from several goroutines; what they wrote is durable when a later Sync returned
// nil. An error that means "disk full" wraps syscall.ENOSPC.
type Writer interface {
	io.WriterAt
	// Zero makes an extent all zero.
	Zero(replication.Extent) error
	// Sync makes durable what was written before.
	Sync() error
}

// Export is a disk to be served.
type Export struct {
	Source replication.Source
	// Writer takes writes; nil makes the export read-only. It must be the same
	// disk as Source: a read gives what was written.
	Writer Writer
	// Dirty are sets of extents by name, each offered as the metadata context
	// qemu:dirty-bitmap:NAME. Ascending and without overlap.
	Dirty map[string][]replication.Extent
	// Description is shown to clients that ask for it.
	Description string
}

// maxDirtySets bounds what a client can ask about with one question.
const maxDirtySets = 16

// errInvalidRequest is answered with EINVAL.
var errInvalidRequest = errors.New("invalid request")

// check reports why e cannot be served under a name.
func (e Export) check(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("the export's name has %d bytes: the limit is %d", len(name), maxName)
	case len(e.Description) > maxName:
		return fmt.Errorf("export %q: the description has %d bytes: the limit is %d", name, len(e.Description), maxName)
	case e.Source == nil:
		return fmt.Errorf("export %q has no source", name)
	case e.Source.Size() < 0:
		return fmt.Errorf("export %q: a source of %d bytes", name, e.Source.Size())
	case len(e.Dirty) > maxDirtySets:
		return fmt.Errorf("export %q has %d dirty sets: the limit is %d", name, len(e.Dirty), maxDirtySets)
	}
	for set, extents := range e.Dirty {
		if set == "" || len(DirtyBitmapPrefix+set) > maxName {
			return fmt.Errorf("export %q: a dirty set with a name of %d bytes", name, len(set))
		}
		end := int64(0)
		for _, x := range extents {
			if err := x.Within(e.Source.Size()); err != nil {
				return fmt.Errorf("export %q, dirty set %q: %w", name, set, err)
			}
			if x.Offset < end {
				return fmt.Errorf("export %q, dirty set %q: extent %s comes after %d", name, set, x, end)
			}
			end = x.End()
		}
	}
	return nil
}

// contexts are the names of the metadata contexts, in an order that stays.
func (e Export) contexts() []string {
	names := []string{AllocationContext}
	for set := range e.Dirty {
		names = append(names, DirtyBitmapPrefix+set)
	}
	slices.Sort(names)
	return names
}

// matching are the contexts that a client's query means. When listing, "base:",
// "qemu:" and "qemu:dirty-bitmap:" mean all that begin so.
func (e Export) matching(query string, listing bool) []string {
	var names []string
	for _, name := range e.contexts() {
		wild := listing && (query == "base:" || query == "qemu:" || query == DirtyBitmapPrefix)
		if name == query || wild && strings.HasPrefix(name, query) {
			names = append(names, name)
		}
	}
	return names
}

// flags are the transmission flags for a client.
func (e Export) flags(structured bool) uint16 {
	// Flush is offered for a read-only export too: clients that flush before they
	// leave are then answered instead of puzzled.
	flags := uint16(flagHasFlags | flagFlush)
	if structured {
		flags |= flagDF
	}
	if e.Writer == nil {
		return flags | flagReadOnly | flagMultiConn
	}
	return flags | flagFUA | flagTrim | flagWriteZeroes
}
