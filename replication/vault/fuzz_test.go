package vault

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"riparo/replication"
)

// The parsers check a CRC before they look further. The fuzzers give them the bytes
// as they come, and once more with the CRCs made right, so that what lies behind is
// reached.

func FuzzRecord(f *testing.F) {
	c, err := encode(codecLZ4, nil, []replication.Change{
		{Extent: replication.Extent{Offset: 5, Length: 300}, Data: make([]byte, 300)},
		{Extent: replication.Extent{Offset: 70_000, Length: 3}, Data: []byte{1, 2, 3}},
	})
	if err != nil {
		f.Fatal(err)
	}
	var mark, inventory encoder
	mark.point(&point{id: "p", time: time.Unix(1, 2), consistency: "crash", size: 10, members: []replication.DiskID{"d"}, tag: "x"})
	s := state{disk: replication.Disk{ID: "d", Size: 10}, moves: moves{}.with(map[location][]entry{{1, 2}: {{length: 1, stored: 1, plain: 1, codec: codecRaw}}}, 1)}
	s.points = []*point{{id: "p", serial: 3}}
	s.segments = []segmentInfo{{1, 3, 2}}
	s.snapshot(&inventory)
	for _, d := range []*draft{
		newDraft(kindBatch, c.table, c.payload, nil),
		newDraft(kindMark, nil, nil, mark.p),
		newDraft(kindDisk, []row{{extent: replication.Extent{Length: 5}}}, nil, diskBody{id: "d", size: 10}.encode()),
		newDraft(kindRewind, nil, nil, rewindBody{"p", 3}.encode()),
		newDraft(kindDrop, nil, nil, encodeDrop([]serial{1, 2})),
		newDraft(kindRelease, nil, nil, releaseBody{"e", []serial{1}}.encode()),
		newDraft(kindMove, c.table[1:], c.payload[c.table[0].stored:], origin{location{1, 4096}, 2}.append(nil)),
		newDraft(kindInventory, nil, nil, inventory.p),
		newDraft(kindMend, nil, nil, nil),
	} {
		d.head.serial = 4
		d.head.seal(d.meta)
		f.Add(append(d.meta, d.payload...))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		tryRecord(p)
		p = slices.Clone(p) // the fuzzer's own bytes must not change
		if len(p) >= recordHeaderSize {
			meta := int64(recordHeaderSize) + int64(binary.LittleEndian.Uint32(p[8:]))*blockRowSize + int64(binary.LittleEndian.Uint32(p[12:]))
			if meta <= int64(len(p)) {
				binary.LittleEndian.PutUint32(p[88:], checksum(p[recordHeaderSize:meta]))
			}
			binary.LittleEndian.PutUint32(p[92:], checksum(p[:92]))
			tryRecord(p)
		}
	})
}

// tryRecord applies a record to a state, if it is one.
func tryRecord(p []byte) {
	r, err := parseMeta(p)
	if err != nil {
		return
	}
	r.segment = 1
	s := state{byID: map[replication.PointID]*point{}}
	if err := s.apply(&r); err != nil {
		return
	}
	s.redo(&r)
}

func FuzzFooter(f *testing.F) {
	d := newDraft(kindBatch, []row{{extent: replication.Extent{Length: 5}}}, nil, nil)
	d.head.serial = 1
	d.head.seal(d.meta)
	f.Add(appendFooter(appendFooter(nil, 4096, d.meta, 0), 8192, d.meta, 0))
	f.Fuzz(func(t *testing.T, p []byte) {
		if list, err := parseFooter(p, 1); err == nil {
			for i := range list {
				list[i].entries()
			}
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	h := segmentHeader{disk: "web01.vda", number: 7, first: 9, previous: 6, previousEnd: 8192}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		parseSegmentHeader(p)
		if len(p) >= segmentHeaderSize {
			p = slices.Clone(p)
			binary.LittleEndian.PutUint32(p[segmentHeaderSize-4:], checksum(p[:segmentHeaderSize-4]))
			parseSegmentHeader(p)
		}
	})
}

func FuzzTrailer(f *testing.F) {
	w := trailer{footer: 4096, length: 100, first: 1, last: 2, number: 1}
	f.Add(w.encode(), int64(4096+100+trailerSize))
	f.Fuzz(func(t *testing.T, p []byte, size int64) {
		if len(p) == trailerSize {
			p = slices.Clone(p)
			binary.LittleEndian.PutUint32(p[60:], checksum(p[:60]))
		}
		if w, err := parseTrailer(p, size); err == nil && w.length > size {
			t.Fatalf("a footer of %d bytes in a segment of %d", w.length, size)
		}
	})
}

func FuzzMapHeader(f *testing.F) {
	h := make([]byte, pageSize)
	copy(h, mapMagic)
	binary.LittleEndian.PutUint32(h[8:], derivedVersion)
	binary.LittleEndian.PutUint32(h[36:], 1)
	binary.LittleEndian.PutUint64(h[72:], 1)
	binary.LittleEndian.PutUint64(h[80:], pageSize)
	binary.LittleEndian.PutUint64(h[88:], 16)
	f.Add(h, make([]byte, 16))
	f.Fuzz(func(t *testing.T, h, tail []byte) {
		if len(h) == pageSize {
			h = slices.Clone(h)
			binary.LittleEndian.PutUint32(h[100:], checksum(tail))
			binary.LittleEndian.PutUint32(h[pageSize-4:], checksum(h[:pageSize-4]))
		}
		m, where, err := parseMapHeader(h, 1<<20)
		if err != nil || where.length != int64(len(tail)) {
			return
		}
		if err := m.parseTail(tail, where); err == nil && int64(len(m.whole.fence)) != m.whole.pages() {
			t.Fatalf("%d fences for %d pages", len(m.whole.fence), m.whole.pages())
		}
	})
}

func FuzzMapEntry(f *testing.F) {
	e := entry{offset: 1, length: 2, segment: 3, position: 4, stored: 5, plain: 6, codec: codecLZ4}
	p := make([]byte, entrySize)
	e.put(p)
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < entrySize {
			return
		}
		e := parseEntry(p)
		if e.check() != nil || e.codec == codecZero {
			return
		}
		// Whatever passes the check can be read without harm.
		stored, plain := make([]byte, e.stored), make([]byte, e.plain)
		copy(stored, p)
		if err := e.decode(plain, stored); err == nil {
			_ = plain[e.inner : int64(e.inner)+e.length]
		}
	})
}

func FuzzCatalog(f *testing.F) {
	s := state{disk: replication.Disk{ID: "d", Size: 10}, segments: []segmentInfo{{1, 1, 1}}, voids: []serialRange{{1, 2}}}
	d := disk{state: s}
	d.points = []*point{{id: "p", serial: 3, members: []replication.DiskID{"d"}}}
	d.log.serial = 5
	d.serial = 5
	f.Add(d.encodeCatalog())
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= catalogHeader {
			p = slices.Clone(p)
			rest := p[catalogHeader:]
			binary.LittleEndian.PutUint64(p[16:], uint64(len(rest)))
			binary.LittleEndian.PutUint32(p[24:], checksum(rest))
			binary.LittleEndian.PutUint32(p[catalogHeader-4:], checksum(p[:catalogHeader-4]))
		}
		var s state
		if _, err := parseCatalog(p, 0, &s); err == nil && len(s.segments) == 0 {
			t.Fatal("a catalog without segments")
		}
	})
}

// FuzzOpen writes bytes over a place of one file of a vault and opens it. Nothing may
// panic, and no wrong byte may be given without an error.
func FuzzOpen(f *testing.F) {
	l := newLife(f.Context(), 3)
	l.calm = true
	if err := l.boot(); err != nil {
		f.Fatal(err)
	}
	for range 60 {
		if err := l.step(); err != nil {
			f.Fatal(err)
		}
	}
	if err := l.reopen(); err != nil {
		f.Fatal(err)
	}
	if err := l.vault.Close(); err != nil {
		f.Fatal(err)
	}
	names, sizes := l.disk.Files()
	for i := range names {
		f.Add(uint8(i), uint32(sizes[i]/2), []byte{0xff, 0, 1})
	}
	f.Fuzz(func(t *testing.T, file uint8, offset uint32, p []byte) {
		i := int(file) % len(names)
		if sizes[i] == 0 || len(p) == 0 || len(p) > 4096 {
			return
		}
		disk := l.disk.Clone()
		w, err := disk.Open(names[i])
		if err != nil {
			t.Fatal(err)
		}
		at := int64(offset) % sizes[i]
		if _, err := w.WriteAt(p[:min(int64(len(p)), sizes[i]-at)], at); err != nil {
			t.Fatal(err)
		}
		life := *l
		life.ctx = t.Context()
		if _, err := flipped(&life, disk); err != nil {
			t.Fatalf("%d bytes at %d of %s: SILENT: %v", len(p), at, names[i], err)
		}
	})
}

func FuzzWrappedKeys(f *testing.F) {
	file := keyFile{vault: vaultID{1, 2}, disk: "web01.vda", generation: 3, keys: []wrappedKey{
		{number: 1, session: 1, wrapper: "m-1", wrapped: make([]byte, 60)},
		{number: 4, session: 9, wrapper: "m-2", wrapped: []byte("short")},
	}}
	f.Add(file.encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= keysHeader {
			p = slices.Clone(p)
			rest := p[keysHeader:]
			binary.LittleEndian.PutUint64(p[16:], uint64(len(rest)))
			binary.LittleEndian.PutUint32(p[24:], checksum(rest))
			binary.LittleEndian.PutUint32(p[28:], checksum(p[:28]))
		}
		k, err := parseKeyFile(p)
		if err != nil {
			return
		}
		// A count that the bytes do not have must not become memory.
		if cap(k.keys) > 2*len(p) {
			t.Fatalf("room for %d keys from %d bytes", cap(k.keys), len(p))
		}
		again, err := parseKeyFile(k.encode())
		if err != nil || len(again.keys) != len(k.keys) || again.disk != k.disk {
			t.Fatalf("written and read again: %+v, %v; want %+v", again, err, k)
		}
	})
}

func FuzzVaultHeader(f *testing.F) {
	v := Vault{id: vaultID{7}, session: 5, sealed: true}
	f.Add(v.encodeHeader())
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= headerSize {
			p = slices.Clone(p)
			binary.LittleEndian.PutUint32(p[headerSize-4:], checksum(p[:headerSize-4]))
		}
		var v, again Vault
		if v.parseHeader(p) != nil {
			return
		}
		if err := again.parseHeader(v.encodeHeader()); err != nil || again.id != v.id || again.session != v.session || again.sealed != v.sealed {
			t.Fatalf("written and read again: %v", err)
		}
	})
}
