package protection

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/vault"
	"riparo/replication/vfs"
	"riparo/store"
)

// tracked is a captured disk whose tracking saw one write since the last point.
type tracked struct {
	content []byte
	written replication.Extent
}

func (d tracked) Key() string                  { return "a" }
func (d tracked) Mode() hypervisor.CaptureMode { return hypervisor.Delta }
func (d tracked) Reason() string               { return "" }
func (d tracked) Size() int64                  { return int64(len(d.content)) }

func (d tracked) ReadAt(p []byte, offset int64) (int, error) {
	return copy(p, d.content[offset:]), nil
}

func (d tracked) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		yield(replication.Region{Extent: d.written}, nil)
	}
}

func (d tracked) Instant() hypervisor.Instant      { return hypervisor.Instant{} }
func (d tracked) Disks() []hypervisor.CapturedDisk { return []hypervisor.CapturedDisk{d} }
func (d tracked) Commit(context.Context) error     { return nil }
func (d tracked) Rollback(context.Context) error   { return nil }

// TestWhatADiskThatGrewHasBeyondItsOldEndIsRead: a volume shows there what others have
// left, and nobody has written it since. Also when the first cycle after it was cut off,
// or the disk grew between the look and the freeze.
func TestWhatADiskThatGrewHasBeyondItsOldEndIsRead(t *testing.T) {
	const old, grown, block = 64 << 10, 160 << 10, 4 << 10
	shrunk := func(t *testing.T, v *vault.Vault, state replication.DiskState, sizes ...int64) replication.DiskState {
		for _, size := range sizes {
			state.Disk.Size = size
			now, err := v.Prepare(t.Context(), state.Disk, state.Epoch)
			if err != nil {
				t.Fatal(err)
			}
			state = now
		}
		return state
	}
	for name, before := range map[string]func(t *testing.T, v *vault.Vault, state replication.DiskState) replication.DiskState{
		"seen by the look": func(t *testing.T, v *vault.Vault, state replication.DiskState) replication.DiskState {
			state.Disk.Size = grown
			state, err := v.Prepare(t.Context(), state.Disk, state.Epoch)
			if err != nil {
				t.Fatal(err)
			}
			return state
		},
		"a cycle before was cut off": func(t *testing.T, v *vault.Vault, state replication.DiskState) replication.DiskState {
			state.Disk.Size = grown
			if _, err := v.Prepare(t.Context(), state.Disk, state.Epoch); err != nil {
				t.Fatal(err)
			}
			data := slices.Repeat([]byte{0x77}, block) // the source has lost it again
			if err := v.Write(t.Context(), replication.Batch{Disk: state.Disk.ID, Epoch: 1, Sequence: state.Sequence + 1,
				Changes: []replication.Change{{Extent: replication.Extent{Offset: 2 * block, Length: block}, Data: data}}}); err != nil {
				t.Fatal(err)
			}
			state, err := v.Prepare(t.Context(), state.Disk, state.Epoch)
			if err != nil || !state.Unmarked {
				t.Fatal(state, err)
			}
			return state
		},
		"it was smaller in between, which no point saw": func(t *testing.T, v *vault.Vault, state replication.DiskState) replication.DiskState {
			return shrunk(t, v, state, old/2, grown)
		},
		"seen by the freeze only": func(_ *testing.T, _ *vault.Vault, state replication.DiskState) replication.DiskState { return state },
	} {
		t.Run(name, func(t *testing.T) {
			v, err := vault.Open(t.Context(), vfs.OS(), t.TempDir(), vault.Options{Create: true, Plain: true})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			id := replication.DiskID("m.a")
			fillDisks(t, v, []replication.DiskID{id}, old, 1)
			state, err := v.State(id)
			if err != nil {
				t.Fatal(err)
			}
			state = before(t, v, state)
			content := slices.Repeat([]byte{1}, grown) // as fillDisks filled its beginning
			for i := old; i < grown; i++ {
				content[i] = 0xAB
			}
			written := replication.Extent{Offset: 4 * block, Length: block}
			for i := written.Offset; i < written.End(); i++ {
				content[i] = 0xCD
			}
			p := &Protector{sink: v, log: slog.Default(), now: time.Now, changed: func(string) {}, keepBytes: keepBytes}
			m := store.Machine{ID: "m", Epoch: 1, Disks: []store.Disk{{Key: "a", ID: id, Size: state.Disk.Size}}}
			var out Outcome
			_, err = p.carry(t.Context(), &m, tracked{content, written}, "p-next", map[string]replication.DiskState{"a": state},
				map[string]replication.PointID{"a": state.Point}, replication.Policy{}, CycleOptions{}, &out, func(string, int64, int64) {})
			if err != nil {
				t.Fatal(err)
			}
			// The second half once more, if the vault had cut that off.
			if read := out.Disks[0].Result.Read; read > grown-old/2+block {
				t.Errorf("%d bytes were read; want what it grew by, and what was written", read)
			}
			head, err := v.View(t.Context(), id, "")
			if err != nil {
				t.Fatal(err)
			}
			defer head.Close()
			has := make([]byte, grown)
			if _, err := head.ReadAt(has, 0); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(has, content) {
				for i := range has {
					if has[i] != content[i] {
						t.Fatalf("the vault has %#x at %d, and the disk %#x", has[i], i, content[i])
					}
				}
			}
		})
	}
}
