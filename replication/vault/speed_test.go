package vault

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// text fills p with content that compresses about 2:1.
func text(p []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	words := []string{"block ", "segment ", "recovery ", "point ", "vault ", "mark ", "layer ", "epoch ", "disk ", "\n"}
	for i := 0; i < len(p); {
		if r.IntN(4) == 0 {
			for range 12 {
				if i < len(p) {
					p[i] = byte(r.Uint32())
					i++
				}
			}
			continue
		}
		i += copy(p[i:], words[r.IntN(len(words))])
	}
}

// BenchmarkInitialReplication takes 6 disks of 1 GiB with 170 MiB of data each, all
// at once, with 4 batches under way per disk.
func BenchmarkInitialReplication(b *testing.B) {
	const disks, size, used = 6, 1 << 30, 170 << 20
	data := make([]byte, used)
	text(data, 1)
	b.SetBytes(disks * used)
	for b.Loop() {
		v, err := Open(b.Context(), vfs.OS(), b.TempDir(), keyed(Options{Create: true}))
		if err != nil {
			b.Fatal(err)
		}
		var wait sync.WaitGroup
		for i := range disks {
			wait.Go(func() {
				if err := fill(b, v, replication.DiskID(fmt.Sprintf("d%d", i)), size, data); err != nil {
					b.Error(err)
				}
			})
		}
		wait.Wait()
		u := v.Usage()
		b.ReportMetric(float64(u.StoredBytes)/float64(disks*used), "stored/data")
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// fill replicates a disk: data from its beginning, zero behind it, and one mark.
func fill(b testing.TB, v *Vault, id replication.DiskID, size int64, data []byte) error {
	if _, err := v.Prepare(b.Context(), replication.Disk{ID: id, Size: size}, 1); err != nil {
		return err
	}
	sequence := replication.Sequence(0)
	var wait sync.WaitGroup
	slots := make(chan struct{}, 4)
	errs := make(chan error, 1)
	for at := 0; at < len(data); at += replication.MaxBatchBytes {
		sequence++
		batch := replication.Batch{Disk: id, Epoch: 1, Sequence: sequence}
		for p := at; p < min(at+replication.MaxBatchBytes, len(data)); p += replication.MaxChangeBytes {
			end := min(p+replication.MaxChangeBytes, len(data))
			batch.Changes = append(batch.Changes, replication.Change{
				Extent: replication.Extent{Offset: int64(p), Length: int64(end - p)}, Data: data[p:end],
			})
		}
		slots <- struct{}{}
		wait.Go(func() {
			if err := v.Write(b.Context(), batch); err != nil {
				select {
				case errs <- err:
				default:
				}
			}
			<-slots
		})
	}
	wait.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	sequence++
	return v.Mark(b.Context(), replication.Mark{Disk: id, Epoch: 1, Sequence: sequence, Point: "p0", Time: time.Unix(1, 0), Size: size})
}

// BenchmarkDeltaCycle writes 100 blocks of 64 KiB to a disk of 64 GiB and marks.
func BenchmarkDeltaCycle(b *testing.B) {
	v, err := Open(b.Context(), vfs.OS(), b.TempDir(), keyed(Options{Create: true}))
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	const size = 64 << 30
	if _, err := v.Prepare(b.Context(), replication.Disk{ID: "d", Size: size}, 1); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 64<<10)
	text(data, 2)
	r := rand.New(rand.NewPCG(1, 1))
	sequence := replication.Sequence(0)
	for b.Loop() {
		at := r.Int64N(size/blockBytes - 1000)
		for range 2 {
			sequence++
			batch := replication.Batch{Disk: "d", Epoch: 1, Sequence: sequence}
			for range 50 {
				at += 1 + r.Int64N(9)
				batch.Changes = append(batch.Changes, replication.Change{
					Extent: replication.Extent{Offset: at * blockBytes, Length: blockBytes}, Data: data,
				})
			}
			if err := v.Write(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		sequence++
		if err := v.Mark(b.Context(), replication.Mark{
			Disk: "d", Epoch: 1, Sequence: sequence, Point: replication.PointID(fmt.Sprintf("p%09d", sequence)), Time: time.Unix(int64(sequence), 0), Size: size,
		}); err != nil {
			b.Fatal(err)
		}
	}
}
