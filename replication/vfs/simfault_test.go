package vfs

import (
	"errors"
	"strings"
	"testing"
)

func TestADiskThatBecameReadOnlyIsReadAndTakesNothing(t *testing.T) {
	s := NewSim(1)
	put(t, s, "f", "old")
	if err := errors.Join(s.MkdirAll("d"), s.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	f, err := s.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	s.SetReadOnly(1)
	if _, err := f.WriteAt([]byte("new"), 0); err != nil {
		t.Fatalf("one more change was to succeed: %v", err)
	}
	_, write := f.WriteAt([]byte("x"), 0)
	_, create := s.Create("g")
	for what, err := range map[string]error{
		"write": write, "create": create, "truncate": f.Truncate(0), "sync": f.Sync(), "rename": s.Rename("f", "h"), "remove": s.Remove("f"),
		"mkdir": s.MkdirAll("e"), "syncdir": s.SyncDir("."),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v, want ErrReadOnly", what, err)
		}
	}
	if err := s.MkdirAll("d"); err != nil {
		t.Errorf("a folder that is there: %v", err)
	}
	if got := get(t, s, "f"); got != "new" {
		t.Errorf("%q, want what was written before", got)
	}
	if got := get(t, s.Restart(), "f"); got != "old" {
		t.Errorf("after the next start: %q, want what was synced", got)
	}
	s = NewSim(1)
	s.SetReadOnly(0)
	s.SetReadOnly(-1)
	put(t, s, "f", "again")
}

func TestALostWriteIsPromisedAndNeverThere(t *testing.T) {
	s := NewSim(1)
	s.LoseWrite(1)
	put(t, s, "f", strings.Repeat("a", Sector))
	put(t, s, "g", strings.Repeat("b", Sector))
	put(t, s, "h", strings.Repeat("c", Sector))
	if err := s.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "g"); got != strings.Repeat("b", Sector) {
		t.Errorf("from memory: %q", got)
	}
	for _, s := range []*Sim{s.Restart(), evicted(s)} {
		for name, want := range map[string]string{"f": "a", "g": "\x00", "h": "c"} {
			if got := get(t, s, name); got != strings.Repeat(want, Sector) {
				t.Errorf("%s is %q, want %q everywhere", name, got, want)
			}
		}
	}
	if lost, elsewhere := s.Betrayed(); lost != 1 || elsewhere != 0 {
		t.Errorf("%d lost, %d elsewhere; want 1 and 0", lost, elsewhere)
	}
}

func evicted(s *Sim) *Sim {
	c := s.Clone()
	c.Evict()
	return c
}

func TestAMisdirectedWriteLiesWhereItDoesNotBelong(t *testing.T) {
	same, other := 0, 0
	for seed := range uint64(40) {
		s := NewSim(seed)
		put(t, s, "f", strings.Repeat("a", 4*Sector))
		put(t, s, "g", strings.Repeat("b", 4*Sector))
		if err := s.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		g, err := s.Open("g")
		if err != nil {
			t.Fatal(err)
		}
		s.MisdirectWrite(0)
		if _, err := g.WriteAt([]byte(strings.Repeat("x", Sector)), Sector); err != nil {
			t.Fatal(err)
		}
		if err := g.Sync(); err != nil {
			t.Fatal(err)
		}
		s.Evict()
		f, got := get(t, s, "f"), get(t, s, "g")
		if got[Sector:2*Sector] != strings.Repeat("b", Sector) {
			t.Fatalf("seed %d: it arrived where it belongs", seed)
		}
		switch astray := strings.Repeat("x", Sector); {
		case strings.Contains(f, astray):
			other++
		case strings.Contains(got, astray):
			same++
		default:
			t.Errorf("seed %d: it lies nowhere: %q, %q", seed, f, got)
		}
	}
	if same == 0 || other == 0 {
		t.Errorf("%d in the same file, %d in the other; want both", same, other)
	}
}
