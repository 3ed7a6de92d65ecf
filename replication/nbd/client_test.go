package nbd

import (
	"testing"

	"riparo/replication"
)

func TestOurClientReadsOurServer(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 512, 513, 1<<20 + 1, 200<<20 + 1536, 64 << 30} {
		disk := newMemoryDisk(size).scatter(1, 40)
		_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk}})
		c := dial(t, URI("unix", socket, "d"), Options{Contexts: []string{AllocationContext}, Connections: 2})
		sameContent(t, c, disk)
		var got, want []replication.Region
		for r, err := range c.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		join := joiner{yield: func(r replication.Region, _ error) bool { want = append(want, r); return true }}
		for r := range disk.Regions(t.Context()) {
			join.add(r)
		}
		join.end()
		if len(got) != len(want) {
			t.Fatalf("size %d: got %d regions, want %d", size, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("size %d: region %d: got %v, want %v", size, i, got[i], want[i])
			}
		}
	}
}
