package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"

	"riparo/replication"
)

func TestThereAreNotMoreConnectionsThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l, stop := servePipe(t, ServerOptions{Connections: 2}, map[string]Export{"d": {Source: newMemoryDisk(1)}})
		defer stop()
		o := Options{Dial: l.dial}
		a := Address{Network: "test", Export: "d"}
		first, err := DialAddress(t.Context(), a, o)
		if err != nil {
			t.Fatal(err)
		}
		second, err := DialAddress(t.Context(), a, o)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if third, err := DialAddress(t.Context(), a, o); err == nil {
			third.Close()
			t.Error("a third connection of two was accepted")
		}
		first.Close()
		synctest.Wait()
		third, err := DialAddress(t.Context(), a, o)
		if err != nil {
			t.Fatalf("after one had left: %v", err)
		}
		third.Close()
	})
}

// slowDisk answers a read when it is told to.
type slowDisk struct {
	*memoryDisk
	reading chan struct{}
	let     chan struct{}
}

func (d slowDisk) ReadAt(p []byte, off int64) (int, error) {
	d.reading <- struct{}{}
	<-d.let
	return d.memoryDisk.ReadAt(p, off)
}

func TestRemoveWaitsForItsReadersAndAnswersThem(t *testing.T) {
	for _, how := range []string{"remove", "stop"} {
		synctest.Test(t, func(t *testing.T) {
			disk := slowDisk{newMemoryDisk(1 << 20), make(chan struct{}), make(chan struct{})}
			other := newMemoryDisk(1 << 20)
			s, l, stop := servePipe(t, ServerOptions{}, map[string]Export{"d": {Source: disk}, "other": {Source: other}})
			c, err := DialAddress(t.Context(), Address{Network: "test", Export: "d"}, Options{Dial: l.dial})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			neighbor, err := DialAddress(t.Context(), Address{Network: "test", Export: "other"}, Options{Dial: l.dial})
			if err != nil {
				t.Fatal(err)
			}
			defer neighbor.Close()
			answer := make(chan error, 1)
			go func() { _, err := c.ReadAt(make([]byte, 10), 0); answer <- err }()
			<-disk.reading
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				if how == "remove" {
					s.Remove("d")
				} else {
					stop()
				}
			}()
			synctest.Wait()
			select {
			case <-gone:
				t.Error("the source was let go while it was being read")
			default:
			}
			disk.let <- struct{}{}
			<-gone
			if err := <-answer; err != nil {
				t.Errorf("%s: the read under way: %v", how, err)
			}
			if _, err := c.ReadAt(make([]byte, 10), 0); err == nil {
				t.Errorf("%s: the export is still served", how)
			}
			if how == "stop" {
				return
			}
			if _, err := neighbor.ReadAt(make([]byte, 10), 0); err != nil {
				t.Errorf("another export was ended too: %v", err)
			}
			s.Remove("d") // harmless
			if err := s.Add("d", Export{Source: other}); err != nil {
				t.Errorf("a new export of that name: %v", err)
			}
			stop()
		})
	}
}

func TestAnExportThatCannotBeServedIsRefused(t *testing.T) {
	s := NewServer(ServerOptions{})
	disk := newMemoryDisk(1000)
	long := string(bytes.Repeat([]byte("x"), maxName+1))
	for what, c := range map[string]struct {
		name string
		e    Export
	}{
		"a name that is too long": {long, Export{Source: disk}},
		"a description too long":  {"a", Export{Source: disk, Description: long}},
		"no source":               {"a", Export{}},
		"a negative size":         {"a", Export{Source: newMemoryDisk(-1)}},
		"a set without a name":    {"a", Export{Source: disk, Dirty: map[string][]replication.Extent{"": nil}}},
		"a set beyond the end":    {"a", Export{Source: disk, Dirty: map[string][]replication.Extent{"x": {{Offset: 999, Length: 2}}}}},
		"a set out of order":      {"a", Export{Source: disk, Dirty: map[string][]replication.Extent{"x": {{Offset: 9, Length: 2}, {Offset: 1, Length: 2}}}}},
	} {
		if err := s.Add(c.name, c.e); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if err := s.Add("a", Export{Source: disk}); err != nil {
		t.Error(err)
	}
	if err := s.Add("a", Export{Source: disk}); err == nil {
		t.Error("one name was given twice")
	}
}

// failingDisk gives errors.
type failingDisk struct {
	*memoryDisk
	err error
}

func (d failingDisk) ReadAt(p []byte, off int64) (int, error)  { return 0, d.err }
func (d failingDisk) WriteAt(p []byte, off int64) (int, error) { return 0, d.err }
func (d failingDisk) Zero(replication.Extent) error            { return d.err }
func (d failingDisk) Sync() error                              { return d.err }

func TestErrorsOfADiskReachTheClient(t *testing.T) {
	for err, want := range map[error]uint32{
		syscall.ENOSPC: errnoNoSpace, syscall.EDQUOT: errnoNoSpace, syscall.EPERM: errnoPerm, syscall.EACCES: errnoPerm,
		syscall.EIO: errnoIO, io.EOF: errnoIO, errors.New("a bad day"): errnoIO, context.Canceled: errnoShutdown,
		&replication.Problem{Code: "x", Cause: "full", Err: syscall.ENOSPC}: errnoNoSpace,
	} {
		disk := failingDisk{newMemoryDisk(4 << 20), err}
		_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk, Writer: disk}})
		c := dial(t, URI("unix", socket, "d"), Options{})
		_, reading := c.ReadAt(make([]byte, 3<<20), 0)
		_, writing := c.WriteAt(make([]byte, 3<<20), 0)
		for what, got := range map[string]error{"read": reading, "write": writing, "zero": c.Zero(replication.Extent{Length: 9}), "sync": c.Sync()} {
			told, ok := errors.AsType[*ServerError](got)
			if !ok || told.Number != want {
				t.Errorf("%s with %v: got %v, want the number %d", what, err, got, want)
			}
		}
	}
}

// TestOneStatusIsGivenWhereOneIsWanted: QEMU asks so when it needs only the next.
func TestOneStatusIsGivenWhereOneIsWanted(t *testing.T) {
	_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: newComb(10)}})
	c := dial(t, URI("unix", socket, "d"), Options{Contexts: []string{AllocationContext}})
	for flags, want := range map[uint16]int{0: 20, cmdFlagReqOne: 1} {
		r := &request{command: cmdBlockStatus, flags: flags, length: uint32(c.Size())}
		if err := c.connections[0].do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got := len(r.status[1]); got != want {
			t.Errorf("with the flags %d: got %d descriptors, want %d", flags, got, want)
		}
	}
}
