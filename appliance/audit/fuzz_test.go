package audit

import (
	"bytes"
	"slices"
	"testing"

	"riparo/store"
)

// FuzzExport compares exports that come from elsewhere. Comparing with itself finds
// nothing; with a byte of the newer one missing it is never called sound and longer.
func FuzzExport(f *testing.F) {
	line := `{"sequence":1,"time":"2026-11-23T12:00:00Z","actor":"anna","action":"machine.pause","object":"m-1","outcome":"done"}` + "\n"
	f.Add([]byte(line))
	f.Add([]byte(line + `{"sequence":2,"actor":"b"}` + "\n"))
	f.Add([]byte(`{"sequence":18446744073709551615}{"sequence":0}`))
	f.Add([]byte(`{"sequence":"x"}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var sequences []uint64
		whole := read(bytes.NewReader(p), func(l store.AuditLine, _ [32]byte) { sequences = append(sequences, l.Sequence) }) == nil
		r, err := Compare(bytes.NewReader(p), bytes.NewReader(p))
		if (err == nil) != whole {
			t.Fatalf("read on its own: %v, compared: %v", whole, err)
		}
		if err != nil || r.Lines != len(sequences) {
			if err == nil {
				t.Fatalf("%d lines were compared, want %d", r.Lines, len(sequences))
			}
			return
		}
		ascending := len(sequences) > 0 && sequences[0] > 0 && slices.IsSorted(sequences) && len(slices.Compact(sequences)) == r.Lines
		if ascending && !r.Sound {
			t.Fatalf("an export is not what it is: %v", r.Findings)
		}
	})
}
