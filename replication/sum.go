package replication

import (
	"bytes"
	"crypto/sha256"
)

// Sum stands for the content of a chunk of a disk when two ends compare what they
// hold: its SHA-256, or ZeroSum.
type Sum [sha256.Size]byte

// ZeroSum stands for a chunk of zeroes of any length, so that a hole need not be
// read and hashed. It is no SHA-256 that anybody knows an input for.
var ZeroSum Sum

// SumOf gives the sum of a chunk: ZeroSum if it is all zero.
func SumOf(chunk []byte) Sum {
	if IsZero(chunk) {
		return ZeroSum
	}
	return sha256.Sum256(chunk)
}

var zeroes [4096]byte

// IsZero reports whether every byte of b is zero. It stops at the first that is
// not, within 4 KiB.
func IsZero(b []byte) bool {
	for len(b) > len(zeroes) {
		if !bytes.Equal(b[:len(zeroes)], zeroes[:]) {
			return false
		}
		b = b[len(zeroes):]
	}
	return bytes.Equal(b, zeroes[:len(b)])
}
