package vault

import (
	"context"
	"errors"
	"fmt"

	"riparo/replication"
)

// maxChunkBytes bounds the memory that Hashes takes.
const maxChunkBytes = 16 << 20

// Hashes gives the sums of the chunks of an extent of the head; the last chunk may
// be shorter. A chunk that is zero gives replication.ZeroSum, without being read if
// it was never written or was written as zero.
func (v *Vault) Hashes(ctx context.Context, id replication.DiskID, extent replication.Extent, chunk int64) (sums []replication.Sum, err error) {
	if chunk <= 0 || chunk > maxChunkBytes {
		return nil, fmt.Errorf("hash disk %s: chunks of %d bytes: want 1 to %d", id, chunk, maxChunkBytes)
	}
	w, err := v.View(ctx, id, "")
	if p, ok := errors.AsType[*replication.Problem](err); ok && p.Code == CodeDamaged {
		return strangeSums(extent, chunk), nil // records are lost: see Judge
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := w.Close(); err == nil {
			err = e
		}
	}()
	if extent.Length == 0 {
		return nil, nil
	}
	if err := extent.Within(w.size); err != nil {
		return nil, fmt.Errorf("hash disk %s: %w", id, err)
	}
	buffer := make([]byte, min(chunk, extent.Length))
	for at := extent.Offset; at < extent.End(); at += chunk {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		end := min(at+chunk, extent.End())
		list, err := w.resolve(at, end)
		if err != nil {
			return nil, err
		}
		if onlyZero(list) {
			sums = append(sums, replication.ZeroSum)
			continue
		}
		if err := readFull(w, buffer[:end-at], at); err != nil {
			return nil, err
		}
		sums = append(sums, replication.SumOf(buffer[:end-at]))
	}
	return sums, nil
}

// strangeSums are of a head that nothing is known about: no content has them.
func strangeSums(extent replication.Extent, chunk int64) []replication.Sum {
	var strange replication.Sum
	for i := range strange {
		strange[i] = 0xff
	}
	var sums []replication.Sum
	for at := extent.Offset; at < extent.End(); at += chunk {
		sums = append(sums, strange)
	}
	return sums
}

func onlyZero(list []entry) bool {
	for i := range list {
		if list[i].codec != codecZero {
			return false
		}
	}
	return true
}
