package vault

import (
	"context"
	"io"
	"testing"

	"riparo/replication"
	"riparo/replication/sinktest"
	"riparo/replication/vfs"
)

// readable is a vault as the contract suite wants to see it.
type readable struct {
	*Vault
	options Options
}

func (r readable) ReadBack(ctx context.Context, id replication.DiskID, point replication.PointID) ([]byte, error) {
	w, err := r.View(ctx, id, point)
	if err != nil {
		return nil, err
	}
	p := make([]byte, w.Size())
	if _, err := w.ReadAt(p, 0); err != nil && err != io.EOF {
		return nil, closing(err, w)
	}
	return p, w.Close()
}

func (r readable) Reopen(t *testing.T) replication.Sink {
	if err := r.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	return readable{open(t, r.fs, r.dir, r.options), r.options}
}

func TestVaultKeepsTheContractOfASink(t *testing.T) {
	small := Options{segmentBytes: 300 << 10, memoryEntries: 40}
	t.Run("OnFiles", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) replication.Sink {
			return readable{open(t, vfs.OS(), t.TempDir(), Options{}), Options{}}
		})
	})
	t.Run("OnFilesWithSmallSegments", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) replication.Sink {
			return readable{open(t, vfs.OS(), t.TempDir(), small), small}
		})
	})
	t.Run("OnTheSimulatedDisk", func(t *testing.T) {
		sinktest.Run(t, func(t *testing.T) replication.Sink {
			return readable{open(t, vfs.NewSim(1), "v", small), small}
		})
	})
}
