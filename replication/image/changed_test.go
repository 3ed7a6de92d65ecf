package image

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"riparo/replication"
)

func TestChangedExtentsAreReadSortedAndJoined(t *testing.T) {
	text := "\ufeff" + `{"offset":4096,"length":4096}
{"length":10,"offset":100}` + "\r\n\n" + `  {"offset":8192,"length":1}
{"offset":105,"length":20}`
	got, err := ReadChanged(strings.NewReader(text), 8193)
	want := []replication.Extent{{Offset: 100, Length: 25}, {Offset: 4096, Length: 4097}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := ReadChanged(strings.NewReader(""), 0); err != nil || len(got) != 0 {
		t.Errorf("an empty list: got %v, %v", got, err)
	}
}

func TestAWrongListOfChangesNamesTheLine(t *testing.T) {
	good := `{"offset":0,"length":1}` + "\n"
	for _, line := range []string{
		"offset", "{", "[]", "null", "{}", `{"offset":1}`, `{"length":1}`,
		`{"offset":-1,"length":1}`, `{"offset":1,"length":0}`, `{"offset":1,"length":-5}`, `{"offset":1.5,"length":1}`, `{"offset":"1","length":1}`,
		`{"offset":1000,"length":1}`, `{"offset":999,"length":2}`, `{"offset":9223372036854775807,"length":9223372036854775807}`, `{"offset":99999999999999999999,"length":1}`,
		`{"offset":1,"length":1,"zero":true}`, `{"offset":1,"length":1} {"offset":1,"length":1}`,
		`{"offset":1,` + strings.Repeat(" ", maxChangedLine) + `"length":1}`,
	} {
		_, err := ReadChanged(strings.NewReader(good+"\n"+line+"\n"+good), 1000)
		wantProblem(t, err, "changed.invalid")
		if err != nil && !strings.Contains(err.Error(), "line 3:") {
			t.Errorf("%.40s: got %v, want it to name line 3", line, err)
		}
	}
}

func TestTooManyChangesAreRefused(t *testing.T) {
	var b bytes.Buffer
	const limit = 1000
	for i := range limit + 1 {
		fmt.Fprintf(&b, "{\"offset\":%d,\"length\":1}\n", i*2)
	}
	_, err := readChanged(bytes.NewReader(b.Bytes()), 1<<40, limit)
	wantProblem(t, err, "changed.invalid")
	if got, err := readChanged(bytes.NewReader(b.Bytes()), 1<<40, limit+1); err != nil || len(got) != limit+1 {
		t.Errorf("as many as are allowed: got %d, %v", len(got), err)
	}
	// Those that touch are one, however many lines they take.
	if got, err := readChanged(strings.NewReader(strings.Repeat(`{"offset":5,"length":1}`+"\n", 5*limit)), 10, limit); err != nil || len(got) != 1 {
		t.Errorf("one extent in many lines: got %d, %v", len(got), err)
	}
}

func FuzzReadChanged(f *testing.F) {
	f.Add([]byte(`{"offset":1,"length":2}`+"\n"), int64(100))
	f.Fuzz(func(t *testing.T, text []byte, size int64) {
		extents, err := ReadChanged(bytes.NewReader(text), size)
		if err != nil {
			return
		}
		end := int64(-1)
		for _, e := range extents {
			if err := e.Within(size); err != nil || e.Offset <= end {
				t.Fatalf("size %d: %v in %v: %v", size, e, extents, err)
			}
			end = e.End()
		}
	})
}

// onlyRegions hides that a source can tell of a part.
type onlyRegions struct{ replication.Source }

func TestADeltaIsTheChangedPartWithItsHoles(t *testing.T) {
	const mib = 1 << 20
	path := sparseFile(t, 16*mib, replication.Extent{Offset: 4 * mib, Length: 4 * mib})
	f := open(t, path)
	changed := []replication.Extent{{Offset: 100, Length: 50}, {Offset: 3 * mib, Length: 2 * mib}, {Offset: 6 * mib, Length: 1}, {Offset: 7 * mib, Length: 9 * mib}}
	region := func(off, length int64, zero bool) replication.Region {
		return replication.Region{Extent: replication.Extent{Offset: off, Length: length}, Zero: zero}
	}
	want := []replication.Region{region(100, 50, true), region(3*mib, mib, true), region(4*mib, mib, false), region(6*mib, 1, false), region(7*mib, mib, false), region(8*mib, 8*mib, true)}
	// What is small is not asked about.
	asked := slices.Clone(want)
	asked[0].Zero = false
	for name, source := range map[string]replication.Source{"by part": f, "by walk": onlyRegions{f}, "twice": Delta(onlyRegions{f}, []replication.Extent{{Length: 16 * mib}})} {
		d := Delta(source, changed)
		for range 2 { // A source can be walked over again.
			var got []replication.Region
			for r, err := range d.Regions(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, r)
			}
			want := want
			if name == "by part" {
				want = asked
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
		if d.Size() != f.Size() {
			t.Errorf("%s: size %d, want %d", name, d.Size(), f.Size())
		}
	}
	// What the source says nothing of is data.
	holes := Delta(onlyRegions{Delta(f, []replication.Extent{{Offset: mib, Length: mib}})}, []replication.Extent{{Offset: 0, Length: 3 * mib}})
	var got []replication.Region
	for r := range holes.Regions(t.Context()) {
		got = append(got, r)
	}
	if want := []replication.Region{region(0, mib, false), region(mib, mib, true), region(2*mib, mib, false)}; !slices.Equal(got, want) {
		t.Errorf("a delta of a delta: got %v, want %v", got, want)
	}
}
