package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"riparo/replication"
	"riparo/store"
)

func open(t *testing.T) (*Log, *store.Store) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "state.db"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(st.Check(), st.Close()); err != nil {
			t.Error(err)
		}
	})
	l, err := Open(st, Options{KeyFile: filepath.Join(dir, "pki", "audit.key")})
	if err != nil {
		t.Fatal(err)
	}
	return l, st
}

func (l *Log) write(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		line := store.AuditLine{Actor: "anna", Address: "192.0.2.7", Action: "machine.pause", Object: fmt.Sprint("m-", i), Outcome: store.AuditDone}
		if _, err := l.Append(line); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *Log) verify(t *testing.T) Report {
	t.Helper()
	r, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestALogThatNobodyTouchedIsSound(t *testing.T) {
	l, _ := open(t)
	if r := l.verify(t); !r.Sound || r.Lines != 0 {
		t.Errorf("an empty log: %+v", r)
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() { l.write(t, 25) })
	}
	wait.Wait()
	if r := l.verify(t); !r.Sound || r.Lines != 100 || r.First != 1 || r.Last != 100 {
		t.Errorf("after 100 lines: %+v", r)
	}
	page, err := l.Page(41, 10)
	if err != nil || len(page) != 10 || page[0].Sequence != 40 || page[9].Sequence != 31 {
		t.Errorf("the page before line 41: %+v, %v", page, err)
	}
}

// TestEveryHandThatTouchesTheLogIsFound does to a sound log what somebody with the
// state but without the key can do, with every line in turn.
func TestEveryHandThatTouchesTheLogIsFound(t *testing.T) {
	const lines = 6
	edit := func(change func(*store.AuditLine)) func(*store.Tx, uint64) error {
		return func(tx *store.Tx, n uint64) error {
			line, err := tx.Audit().Get(store.AuditKey(n))
			if err != nil {
				return err
			}
			change(&line)
			return tx.Audit().Put(line)
		}
	}
	swap := func(tx *store.Tx, a, b uint64) error {
		first, err := tx.Audit().Get(store.AuditKey(a))
		if err != nil {
			return err
		}
		second, err := tx.Audit().Get(store.AuditKey(b))
		if err != nil {
			return err
		}
		first.Sequence, second.Sequence = b, a
		return errors.Join(tx.Audit().Put(first), tx.Audit().Put(second))
	}
	deeds := map[string]func(tx *store.Tx, n uint64) error{
		"another actor":   edit(func(l *store.AuditLine) { l.Actor = "bruno" }),
		"another time":    edit(func(l *store.AuditLine) { l.Time = l.Time.Add(1) }),
		"another outcome": edit(func(l *store.AuditLine) { l.Outcome = store.AuditRefused }),
		"another object":  edit(func(l *store.AuditLine) { l.Object += "0" }),
		"a detail":        edit(func(l *store.AuditLine) { l.Detail = "x" }),
		"another MAC":     edit(func(l *store.AuditLine) { l.MAC[3] ^= 1 }),
		"another key":     edit(func(l *store.AuditLine) { l.Key = "00000000" }),
		"a line dropped":  func(tx *store.Tx, n uint64) error { return tx.Audit().Delete(store.AuditKey(n)) },
		"two lines swapped": func(tx *store.Tx, n uint64) error {
			return swap(tx, n, n%lines+1)
		},
		"the end cut off": func(tx *store.Tx, n uint64) error {
			for i := n; i <= lines; i++ {
				if err := tx.Audit().Delete(store.AuditKey(i)); err != nil {
					return err
				}
			}
			return nil
		},
		"the beginning cut off": func(tx *store.Tx, n uint64) error {
			for i := uint64(1); i <= n; i++ {
				if err := tx.Audit().Delete(store.AuditKey(i)); err != nil {
					return err
				}
			}
			return nil
		},
		"a line added": func(tx *store.Tx, n uint64) error {
			line, err := tx.Audit().Get(store.AuditKey(n))
			line.Sequence = lines + 1
			return errors.Join(err, tx.Audit().Put(line))
		},
		"the end cut off and signed with an old mark": func(tx *store.Tx, n uint64) error {
			line, err := tx.Audit().Get(store.AuditKey(n))
			if err != nil {
				return err
			}
			for i := n + 1; i <= lines; i++ {
				if err := tx.Audit().Delete(store.AuditKey(i)); err != nil {
					return err
				}
			}
			return tx.SetSetting(headSetting, mark{Sequence: n, MAC: line.MAC, Key: line.Key, Seal: line.MAC})
		},
		"the signed end removed": func(tx *store.Tx, n uint64) error { return tx.Settings().Delete(headSetting) },
		"the beginning cut off with an invented mark": func(tx *store.Tx, n uint64) error {
			line, err := tx.Audit().Get(store.AuditKey(n))
			if err != nil {
				return err
			}
			for i := uint64(1); i <= n; i++ {
				if err := tx.Audit().Delete(store.AuditKey(i)); err != nil {
					return err
				}
			}
			return tx.SetSetting(anchorSetting, mark{Sequence: n, MAC: line.MAC, Key: line.Key, Seal: line.MAC})
		},
	}
	for name, deed := range deeds {
		for n := uint64(1); n <= lines; n++ {
			l, st := open(t)
			l.write(t, lines)
			if err := st.Update(func(tx *store.Tx) error { return deed(tx, n) }); err != nil {
				t.Fatalf("%s at line %d: %v", name, n, err)
			}
			r := l.verify(t)
			if r.Sound || len(r.Findings) == 0 {
				t.Errorf("%s at line %d was not found: %+v", name, n, r)
			}
			// What is written afterwards does not make it sound again.
			l.write(t, 2)
			if r := l.verify(t); r.Sound {
				t.Errorf("%s at line %d was not found after two more lines: %+v", name, n, r)
			}
		}
	}
}

func TestTheOldestLinesGiveWayAndTheRestStaysSound(t *testing.T) {
	l, st := open(t)
	l.maxLines = 20
	l.write(t, 57)
	r := l.verify(t)
	if !r.Sound || r.Lines > 20 || r.Last != 57 || r.First < 30 {
		t.Errorf("got %+v: want the newest, at most 20, and sound", r)
	}
	if err := st.Update(func(tx *store.Tx) error { return tx.Settings().Delete(anchorSetting) }); err != nil {
		t.Fatal(err)
	}
	if r := l.verify(t); r.Sound {
		t.Error("a log whose beginning is not signed is called sound")
	}
}

func TestTheKeyIsKeptAndANewOneIsSaidSo(t *testing.T) {
	l, st := open(t)
	l.write(t, 3)
	file := filepath.Join(t.TempDir(), "other", "audit.key")
	other, err := Open(st, Options{KeyFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the key file: %v, %v; want it for its owner only", info.Mode(), err)
	}
	other.write(t, 2)
	if r := other.verify(t); r.Sound || !strings.Contains(strings.Join(r.Findings, "\n"), "line 2 was signed with the key "+l.name) || strings.Contains(strings.Join(r.Findings, "\n"), "line 6") {
		t.Errorf("lines of another key: %+v; want those named, and not ours", r)
	}
	if again, err := Open(st, Options{KeyFile: file}); err != nil || again.name != other.name {
		t.Errorf("the key was not kept: %v", err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(st, Options{KeyFile: file}); err == nil || replication.AsProblem(err).Code != "audit.key" {
		t.Errorf("a key that was cut off: %v", err)
	}
}

func TestAnExportKeptElsewhereFindsAnOlderState(t *testing.T) {
	l, st := open(t)
	l.write(t, 5)
	export := func() []byte {
		var b bytes.Buffer
		if err := l.Export(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	kept := export()
	if n := bytes.Count(kept, []byte("\n")); n != 5 {
		t.Fatalf("the export has %d lines, want 5", n)
	}
	l.write(t, 5)
	later := export()
	compare := func(kept, now []byte) Report {
		r, err := Compare(bytes.NewReader(kept), bytes.NewReader(now))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := compare(kept, later); !r.Sound || r.Lines != 5 {
		t.Errorf("an export and its log: %+v", r)
	}
	if r := compare(later, kept); r.Sound || len(r.Findings) != 5 {
		t.Errorf("an older state put back: %+v; want 5 lines missed", r)
	}
	if r := compare(bytes.Replace(kept, []byte("m-2"), []byte("m-9"), 1), later); r.Sound || len(r.Findings) != 1 {
		t.Errorf("an export that was edited: %+v", r)
	}
	// Somebody with the key writes the chain anew: sound in itself, found by the export.
	if err := st.Update(func(tx *store.Tx) error {
		previous := []byte(nil)
		for n := uint64(1); n <= 10; n++ {
			line, err := tx.Audit().Get(store.AuditKey(n))
			if err != nil {
				return err
			}
			if n == 3 {
				line.Actor = "nobody"
			}
			if line.MAC, err = l.mac(previous, line); err != nil {
				return err
			}
			previous = line.MAC
			if err := errors.Join(tx.Audit().Put(line), l.setMark(tx, headSetting, line)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if r := l.verify(t); !r.Sound {
		t.Fatalf("the planted chain is no good: %+v", r)
	}
	if r := compare(kept, export()); r.Sound || len(r.Findings) != 3 {
		t.Errorf("a chain written anew with the key: %+v; want lines 3 to 5 found", r)
	}
	if _, err := Compare(strings.NewReader("{"), bytes.NewReader(later)); err == nil {
		t.Error("an export that was cut off is taken")
	}
}
