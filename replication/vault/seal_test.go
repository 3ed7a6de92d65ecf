package vault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// everything is the content of all files of a simulated disk.
func everything(t *testing.T, disk *vfs.Sim) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	names, sizes := disk.Files()
	for i, name := range names {
		f, err := disk.OpenRead(name)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, sizes[i])
		if err := readFull(f, p, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		files[name] = p
	}
	return files
}

// storedBlock reads the bytes of a block as they are stored.
func storedBlock(t *testing.T, disk vfs.FS, id replication.DiskID, e entry) []byte {
	t.Helper()
	f, err := disk.OpenRead(segmentPath(id, e.segment))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, e.stored)
	if err := readFull(f, p, int64(e.position)); err != nil {
		t.Fatal(err)
	}
	return p
}

// What a thief of the disks finds: neither content nor a checksum that would tell
// whether a content that he knows is there. The same search finds both in a vault
// without encryption.
func TestAThiefFindsNeitherContentNorItsChecksum(t *testing.T) {
	secret := []byte("the salaries of the board, as of March")
	noise := make([]byte, 30_000)
	fillNoise(noise, 1)
	copy(noise, secret)
	sum := sumOf(noise)
	for _, plain := range []bool{true, false} {
		if !plain {
			sealedOnly(t)
		}
		disk := vfs.NewSim(1)
		v := open(t, disk, "v", Options{Plain: plain})
		s := newSender(t, v, "d", 400_000)
		s.write(replication.Change{Extent: replication.Extent{Offset: 65_536, Length: int64(len(noise))}, Data: noise})
		s.write(replication.Change{Extent: replication.Extent{Offset: 200_000, Length: 60_000}, Data: bytes.Repeat(secret, 60_000/len(secret)+1)[:60_000]})
		s.mark()
		s.check()
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		var r row
		r.sum = sum
		p := make([]byte, blockRowSize)
		r.put(p)
		content, sums := 0, 0
		for _, file := range everything(t, disk) {
			content += bytes.Count(file, secret)
			sums += bytes.Count(file, p[24:32])
		}
		if found := content > 0 && sums > 0; found != plain || !plain && content+sums > 0 {
			t.Errorf("plain %v: content found %d times, its checksum %d times", plain, content, sums)
		}
	}
}

func TestABlockOpensOnlyWhereItBelongs(t *testing.T) {
	sealedOnly(t)
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s, other := newSender(t, v, "d", 400_000), newSender(t, v, "e", 400_000)
	noise := make([]byte, 65_536)
	fillNoise(noise, 1)
	for _, s := range []*sender{s, other} {
		s.write(replication.Change{Extent: replication.Extent{Length: 65_536}, Data: noise})
	}
	good := block(t, v, "d", "", 0)
	keys := v.disks["d"].keys
	try := func(k *dataKeys, change func(e *entry, stored []byte)) error {
		e, stored := good, storedBlock(t, disk, "d", good)
		change(&e, stored)
		p, err := k.unseal(&e, stored)
		if err == nil && !bytes.Equal(p, noise) {
			t.Error("a block opened to something else than was written")
		}
		return err
	}
	if err := try(keys, func(*entry, []byte) {}); err != nil {
		t.Fatalf("as it is: %v", err)
	}
	if err := try(keys, func(e *entry, _ []byte) { e.offset, e.length, e.inner = e.offset+1000, 10, 1000 }); err != nil {
		t.Errorf("a part of it: %v", err)
	}
	for name, change := range map[string]func(e *entry, stored []byte){
		"at another offset":   func(e *entry, _ []byte) { e.offset += 65_536 },
		"with another length": func(e *entry, _ []byte) { e.plain-- },
		"by another codec":    func(e *entry, _ []byte) { e.codec = codecLZ4 },
		"of another session":  func(_ *entry, p []byte) { p[0]++ },
		"of another opening":  func(_ *entry, p []byte) { p[8]++ },
		"with another number": func(_ *entry, p []byte) { p[16]++ },
		"changed":             func(_ *entry, p []byte) { p[envelopeBytes] ^= 1 },
		"with another tag":    func(_ *entry, p []byte) { p[len(p)-1] ^= 1 },
		"by a key not there":  func(e *entry, _ []byte) { e.key = 9 },
		"said not to be so":   func(e *entry, _ []byte) { e.key = 0 },
		"changed at its end":  func(_ *entry, p []byte) { p[envelopeBytes+len(noise)-1] ^= 128 },
	} {
		if err := try(keys, change); err == nil {
			t.Errorf("%s: it opened", name)
		}
	}
	if _, err := keys.unseal(&entry{key: 1, plain: 1, codec: codecRaw}, make([]byte, sealedExtra)); err == nil {
		t.Error("with nothing inside: it opened")
	}
	if err := try(v.disks["e"].keys, func(*entry, []byte) {}); err == nil {
		t.Error("on another disk: it opened")
	}
	if _, err := (*dataKeys)(nil).unseal(&good, storedBlock(t, disk, "d", good)); err == nil {
		t.Error("in a vault without encryption: it opened")
	}
}

// Two blocks under the same key and nonce tell each other's content. Here the same
// block is written again and again: within an opening, in later ones, in a copy of the
// folder, and in one that was set back to an older copy. If key and nonce came twice,
// the stored bytes would be equal.
func TestNoNonceComesTwice(t *testing.T) {
	sealedOnly(t)
	noise := make([]byte, 4096)
	fillNoise(noise, 1)
	sealed := map[string]string{}
	session := uint64(0) // of the block before
	note := func(disk *vfs.Sim, v *Vault, when string) {
		t.Helper()
		p := storedBlock(t, disk, "d", block(t, v, "d", "", 0))
		if session = binary.LittleEndian.Uint64(p); session != v.session {
			t.Errorf("%s: a block of session %d is sealed in session %d", when, v.session, session)
		}
		stored := string(p[envelopeBytes:])
		if before, ok := sealed[stored]; ok {
			t.Errorf("%s: a block is sealed as it was %s", when, before)
		}
		sealed[stored] = when
	}
	again := func(s *sender) {
		t.Helper()
		s.write(replication.Change{Extent: replication.Extent{Length: 4096}, Data: noise})
	}
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 400_000)
	var older *vfs.Sim
	for opening := range 6 {
		for i := range 3 {
			again(s)
			note(disk, v, fmt.Sprintf("opening %d, write %d", opening, i))
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if opening == 3 {
			older = disk.Clone()
		}
		v = open(t, disk, "v", Options{})
		s.vault = v
		if v.session <= session {
			t.Errorf("opening %d has session %d after %d", opening+1, v.session, session)
		}
	}
	for _, name := range []string{"one copy", "another copy"} {
		copied := older.Clone()
		v := open(t, copied, "v", Options{})
		state, err := v.State("d")
		if err != nil {
			t.Fatal(err)
		}
		back := &sender{t: t, vault: v, id: "d", epoch: 1, sequence: state.Sequence, head: make([]byte, 400_000)}
		again(back)
		note(copied, v, name)
	}
	if want := 6*3 + 2; len(sealed) != want {
		t.Errorf("%d blocks were looked at, want %d", len(sealed), want)
	}
}

func TestBlocksSealedAtTheSameTimeHaveDifferentNumbers(t *testing.T) {
	s := sealerFor(t)
	noise := make([]byte, 40*blockBytes)
	fillNoise(noise, 1)
	lists := make([]content, 4)
	var wait sync.WaitGroup
	for i := range lists {
		wait.Go(func() {
			c, err := encode(codecLZ4, s, []replication.Change{{Extent: replication.Extent{Offset: 7, Length: int64(len(noise))}, Data: noise}})
			if err != nil {
				t.Error(err)
			}
			lists[i] = c
		})
	}
	wait.Wait()
	seen := map[string]bool{}
	for _, c := range lists {
		p := c.payload
		for _, r := range c.table {
			seen[string(p[:envelopeBytes])] = true
			p = p[r.stored:]
		}
	}
	if want := 4 * 41; len(seen) != want {
		t.Errorf("%d different envelopes, want %d", len(seen), want)
	}
}

// Sealing allocates for a batch, not for a block.
func TestSealingAllocatesNothingForABlock(t *testing.T) {
	s := sealerFor(t)
	count := func(s *sealer, blocks int) float64 {
		noise := make([]byte, blocks*blockBytes)
		fillNoise(noise, 1)
		list := []replication.Change{{Extent: replication.Extent{Length: int64(len(noise))}, Data: noise}}
		return testing.AllocsPerRun(20, func() {
			c, err := encode(codecLZ4, s, list)
			if err != nil {
				t.Fatal(err)
			}
			returnPayload(c.payload)
		})
	}
	count(s, 16) // fills the pools
	// Race detection makes pools forget: one block more or less is no measure.
	if few, many := count(s, 8), count(s, 64); many > few+8 {
		t.Errorf("%v allocations for 8 blocks, %v for 64", few, many)
	}
}

func TestABlockIsRepeatedAsItIsOrSealedAnew(t *testing.T) {
	sealedOnly(t)
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 400_000)
	s.write(change(0, 400_000, 1))
	noise := make([]byte, 65_536)
	fillNoise(noise, 1)
	s.write(replication.Change{Extent: replication.Extent{Offset: 65_536, Length: 65_536}, Data: noise})
	d := v.disks["d"]
	whole := block(t, v, "d", "", 70_000)
	e := whole.part(70_000, 71_000)
	stored := storedBlock(t, disk, "d", e)
	r, again, err := d.repeat(&e, slices.Clone(stored))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, stored) || r.key != 1 || r.extent != (replication.Extent{Offset: 65_536, Length: 65_536}) {
		t.Errorf("%+v: want a block under the newest key as it is", r)
	}
	d.keys.mu.Lock()
	err = d.keys.add(2)
	d.keys.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	packed := block(t, v, "d", "", 200_000)
	for _, e := range []entry{e, packed} {
		stored := storedBlock(t, disk, "d", e)
		r, again, err := d.repeat(&e, slices.Clone(stored))
		if err != nil {
			t.Fatal(err)
		}
		if r.key != 2 || bytes.Equal(again, stored) || r.extent != (replication.Extent{Offset: e.offset - int64(e.inner), Length: int64(e.plain)}) {
			t.Errorf("%+v: want the whole block under key 2", r)
		}
		// It reads back like any other block.
		f := entry{offset: r.extent.Offset, length: r.extent.Length, plain: e.plain, stored: r.stored, codec: r.codec, crc: r.crc, sum: r.sum, key: r.key}
		plain := make([]byte, e.plain)
		if err := d.keys.checkBlock(&f, again, plain); err != nil {
			t.Fatal(err)
		}
		if want := s.head[r.extent.Offset:r.extent.End()]; !bytes.Equal(plain, want) {
			t.Errorf("block %s is not what it was", r.extent)
		}
	}
	stored[100] ^= 1
	if _, _, err := d.repeat(&e, stored); err == nil {
		t.Error("a damaged block was repeated")
	}
}

func TestAForgedBlockIsDamage(t *testing.T) {
	sealedOnly(t)
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 400_000)
	s.write(change(0, 400_000, 1))
	d := v.disks["d"]
	e := block(t, v, "d", "", 0)
	// Whoever can write to the storage can make any checksum right.
	d.mu.Lock()
	e.crc++
	d.memory.layers[0].maps[0][0].crc = func() uint32 {
		stored := storedBlock(t, disk, "d", e)
		stored[envelopeBytes+5] ^= 1
		return checksum(stored)
	}()
	d.mu.Unlock()
	if err := disk.FlipBit(segmentPath("d", e.segment), (int64(e.position)+envelopeBytes+5)*8); err != nil {
		t.Fatal(err)
	}
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := readAll(w); !hasCode(err, CodeDamaged) || !strings.Contains(err.Error(), errForged.Error()) {
		t.Errorf("%v, want %s: %v", err, CodeDamaged, errForged)
	}
}
