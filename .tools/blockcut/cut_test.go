package blockcut

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestACutKeepsWhatWasFlushedAndAnyOfTheRest(t *testing.T) {
	write := func(at int64, c byte) event {
		return event{kind: written, offset: at * sector, data: bytes.Repeat([]byte{c}, 2*sector)}
	}
	events := []event{write(0, 'a'), {kind: flushed}, {kind: noted, note: 7}, write(1, 'b'), write(4, 'c'), {kind: flushed}, write(0, 'd'), {kind: noted, note: 8}}
	met := map[string]bool{}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := cutter{events: events, image: blank(8 * sector)}
		for _, end := range []int{1, 4, 7, len(events)} {
			found, way := c.cut(end, r)
			text := ""
			file := filepath.Join(t.TempDir(), "disk")
			if err := found.save(file); err != nil {
				t.Fatal(err)
			}
			disk, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(disk); at += sector {
				b := disk[at]
				if !bytes.Equal(disk[at:at+sector], bytes.Repeat([]byte{b}, sector)) {
					t.Fatalf("seed %d: sector %d is torn", seed, at/sector)
				}
				text += string(max(b, '.'))
			}
			met[text] = true
			durable := map[int]string{1: "........", 4: "aa......", 7: "abb.cc..", 8: "abb.cc.."}[end]
			for i := range text {
				touched := map[int]string{1: "aa......", 4: ".bb.....", 7: "dd......", 8: "dd......"}[end][i]
				if text[i] != durable[i] && text[i] != touched {
					t.Fatalf("seed %d, cut at %d: sector %d is %q in %s", seed, end, i, text[i], text)
				}
				if way == nothingStays && text[i] != durable[i] {
					t.Fatalf("seed %d, cut at %d: nothing was to stay: %s", seed, end, text)
				}
			}
			if want := map[int][]int{4: {7}, 7: {7}, 8: {7, 8}}[end]; !slices.Equal(c.notes, want) {
				t.Fatalf("cut at %d: notes %v, want %v", end, c.notes, want)
			}
		}
	}
	for _, want := range []string{"aa......", "a.......", ".a......", "ab......", "aab.....", "dbb.cc..", "adb.cc..", "ddb.cc.."} {
		if !met[want] {
			t.Errorf("%s was never found", want)
		}
	}
}
