package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"riparo/replication"
)

// TestHalfAnEntryIsDropped cuts the record in the middle of an entry, as the end of
// a process may: its data was not written.
func TestHalfAnEntryIsDropped(t *testing.T) {
	dir := t.TempDir()
	w, s := world(t, dir)
	ref := startWeb01(t, s, small(101))
	step(t, s, ref, 50)
	branch := filepath.Join(dir, "records", "WEB01", "branch-000001")
	f, err := os.OpenFile(branch, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{1, 2, 3, 4, 5}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	// The next branch was just being created.
	if err := os.WriteFile(filepath.Join(filepath.Dir(branch), "branch-000002"), []byte("riparo"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, s = crashed(t, dir, w)
	step(t, s, ref, 50)
	if v := mustBeInstant(t, w, s, ref); v.Sequence != 102 {
		t.Errorf("the disks show sequence %d: want 102", v.Sequence)
	}
	if _, err := s.Stop(t.Context(), ref, 0); err != nil {
		t.Fatal(err)
	}
	start(t, s, ref, "")
	mustBeInstant(t, w, s, ref)
}

func TestBranchesTellWhereTheMachineLived(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(102))
	step(t, s, ref, 10)
	if _, err := s.Stop(t.Context(), ref, 0); err != nil {
		t.Fatal(err)
	}
	start(t, s, ref, "")
	r, err := w.Record("WEB01")
	if err != nil {
		t.Fatal(err)
	}
	branches := r.Branches()
	if len(branches) != 3 || branches[2].Parent != 1 || branches[2].ParentSequence > 12 || branches[2].ParentSequence < 8 || branches[2].Site != "primary" {
		t.Errorf("the machine was started twice and lived %+v", branches)
	}
	if r.Machine() != "WEB01" {
		t.Errorf("the record is that of %s", r.Machine())
	}
	if _, err := w.Record("DB01"); err == nil {
		t.Error("there is a record of a machine that never was")
	}
}

func TestAJudgmentCanBeGivenUp(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(103))
	disks := captured(t, s, ref, "p1")
	r, err := w.Record("WEB01")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := r.Judge(ctx, asSources(disks)); err == nil {
		t.Errorf("a judgment that was given up says %+v", v)
	}
	if v, err := r.Judge(t.Context(), map[string]replication.Source{}); err == nil {
		t.Errorf("no disks at all were judged as %+v", v)
	}
}

// TestOneDiskAloneIsJudgedByItself: a machine may be protected without all its
// disks.
func TestOneDiskAloneIsJudgedByItself(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(104))
	step(t, s, ref, 300)
	disks := captured(t, s, ref, "p1")
	step(t, s, ref, 300)
	for key := range disks {
		if v := judge(t, w, "WEB01", map[string]replication.Source{key: disks[key]}); !v.OK || v.Sequence > 302 || v.Sequence < 290 {
			t.Errorf("disk %s alone: %+v", key, v)
		}
	}
}
