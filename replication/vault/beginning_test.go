package vault

import (
	"errors"
	"slices"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// TestWithoutItsFirstRecordsADiskShowsNothingElse: what cannot be read of the first segment
// that an opening reads is missing, though nothing that was read before it says so.
func TestWithoutItsFirstRecordsADiskShowsNothingElse(t *testing.T) {
	spoil := func(disk *vfs.Sim, size int64) error {
		name := segmentPath("d", 1)
		f, err := disk.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return errors.Join(f.Truncate(size), f.Sync())
	}
	for name, c := range map[string]struct {
		leave func(*Vault) error
		spoil func(*vfs.Sim) error
	}{
		"an empty file":              {(*Vault).Close, func(disk *vfs.Sim) error { return spoil(disk, 0) }},
		"only its header":            {(*Vault).Close, func(disk *vfs.Sim) error { return spoil(disk, segmentHeaderSize) }},
		"no file after a crash":      {func(v *Vault) error { v.kill(); return nil }, func(disk *vfs.Sim) error { return disk.Remove(segmentPath("d", 1)) }},
		"an empty one after a crash": {func(v *Vault) error { v.kill(); return nil }, func(disk *vfs.Sim) error { return spoil(disk, 0) }},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewSim(3)
			o := Options{segmentBytes: 64 << 10}
			s := newSender(t, open(t, disk, "v", o), "d", 300_000)
			noise := make([]byte, 40_000)
			for i := range 6 {
				fillNoise(noise, uint64(i))
				s.write(replication.Change{Extent: replication.Extent{Offset: int64(i) * 50_000, Length: 40_000}, Data: slices.Clone(noise)})
				s.mark()
			}
			if err := errors.Join(c.leave(s.vault), c.spoil(disk)); err != nil {
				t.Fatal(err)
			}
			s.vault = open(t, disk, "v", o)
			for _, id := range []replication.PointID{"", s.points[0].id, s.points[5].id} {
				w, err := s.vault.View(t.Context(), "d", id)
				if err == nil {
					_, err = readAll(w)
					w.Close()
				}
				if err == nil {
					t.Errorf("point %q is shown without what it lost", id)
				}
			}
		})
	}
}
