package vault

import (
	"context"
	"crypto/sha256"
	"fmt"

	"riparo/replication"
)

// Sum is the SHA-256 of one chunk of a disk.
type Sum [32]byte

// ZeroSum stands for a chunk of zeroes of any length, so that holes need not be
// read and hashed. It is no SHA-256 that anybody knows an input for.
var ZeroSum = Sum{}

// SumOf gives the sum of a chunk as Hashes does: ZeroSum if it is all zero.
func SumOf(chunk []byte) Sum {
	if isZero(chunk) {
		return ZeroSum
	}
	return sha256.Sum256(chunk)
}

// maxChunkBytes bounds the memory that Hashes takes.
const maxChunkBytes = 16 << 20

// Hashes gives the sums of the chunks of an extent of the head; the last chunk may
// be shorter. A chunk that is zero gives ZeroSum, without being read if it was never
// written or was written as zero.
func (v *Vault) Hashes(ctx context.Context, id replication.DiskID, extent replication.Extent, chunk int64) (sums []Sum, err error) {
	if chunk <= 0 || chunk > maxChunkBytes {
		return nil, fmt.Errorf("hash disk %s: chunks of %d bytes: want 1 to %d", id, chunk, maxChunkBytes)
	}
	w, err := v.View(ctx, id, "")
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
			sums = append(sums, ZeroSum)
			continue
		}
		if err := readFull(w, buffer[:end-at], at); err != nil {
			return nil, err
		}
		sums = append(sums, SumOf(buffer[:end-at]))
	}
	return sums, nil
}

func onlyZero(list []entry) bool {
	for i := range list {
		if list[i].codec != codecZero {
			return false
		}
	}
	return true
}
