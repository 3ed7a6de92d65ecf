package replication

import (
	"strings"
	"testing"
)

func TestABatchIsCheckedAgainstItsDiskAndTheLimits(t *testing.T) {
	data := func(offset, length int64) Change {
		return Change{Extent{offset, length}, make([]byte, length)}
	}
	zero := func(offset, length int64) Change { return Change{Extent: Extent{offset, length}} }
	var large, many []Change
	for i := range int64(MaxBatchBytes / MaxChangeBytes) {
		large = append(large, data(i*MaxChangeBytes, MaxChangeBytes))
	}
	for i := range int64(MaxBatchChanges) {
		many = append(many, data(i, 1))
	}
	const size = 64 << 20
	for _, c := range []struct {
		name    string
		changes []Change
		wrong   string // part of the error; empty: none
	}{
		{"one byte", []Change{data(0, 1)}, ""},
		{"the last byte", []Change{data(size-1, 1)}, ""},
		{"a zero change of the whole disk", []Change{zero(0, size)}, ""},
		{"as much data as one may carry", large, ""},
		{"a byte more", append(large[:len(large):len(large)], data(size-1, 1)), "limit 4194304"},
		{"zero changes beside it", append(large[:len(large):len(large)], zero(0, size)), ""},
		{"as many changes as one may have", many, ""},
		{"one more", append(many[:len(many):len(many)], data(9999, 1)), "want 1 to 4096"},
		{"nothing", nil, "want 1 to 4096"},
		{"beyond the disk", []Change{data(size, 1)}, "outside the disk"},
		{"a zero change beyond the disk", []Change{zero(1, size)}, "outside the disk"},
		{"no length", []Change{zero(1, 0)}, "outside the disk"},
		{"empty data", []Change{{Extent{0, 5}, []byte{}}}, "0 bytes of data"},
		{"too little data", []Change{{Extent{0, 5}, make([]byte, 4)}}, "4 bytes of data"},
		{"too long a change", []Change{data(0, MaxChangeBytes+1)}, "limit 1048576"},
	} {
		b := Batch{Disk: "web01.vda", Epoch: 1, Sequence: 7, Changes: c.changes}
		err := b.Check(size)
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.wrong != "" && err == nil:
			t.Errorf("%s: no error, want one with %q", c.name, c.wrong)
		case err != nil && (!strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), "batch 7 of disk web01.vda")):
			t.Errorf("%s: %q: want the batch, the disk and %q in it", c.name, err, c.wrong)
		}
	}
}

func TestADiskNameIsSafeAsAFileName(t *testing.T) {
	for name, ok := range map[DiskID]bool{
		"web01.vda": true, "a": true, "9": true, "A_b-c.d": true, DiskID(strings.Repeat("x", 128)): true,
		"": false, ".": false, "..": false, ".hidden": false, "-x": false, "_x": false, "a/b": false, `a\b`: false,
		"a b": false, "a\x00": false, "ü": false, "a:b": false, DiskID(strings.Repeat("x", 129)): false,
	} {
		if got := name.Check() == nil; got != ok {
			t.Errorf("disk name %q: %v, want %v", string(name), got, ok)
		}
	}
}
