package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// blockSums makes the checksums of sealed blocks: 64 bits of a keyed hash of content
// and place. They are strong in two ways that a CRC is not. Nobody who writes inside a
// guest can make two contents that look equal, because he does not know the key; that
// is why a comparison may trust them instead of reading the block, see Vault.Differ.
// And whoever knows a content cannot tell by them whether the disk has it.
//
// The hash is the tag of AES-GCM over the content, which is a polynomial of it at a
// secret point: two contents of 64 KiB meet with probability 2^-116. It is made a
// pseudo-random function by one more block of AES under a key of its own, so that
// nobody sees a tag and its nonce, the offset, may repeat. Cut to 64 bits, what differs
// looks equal with probability 2^-64. It costs a third of a SHA-256.
type blockSums struct {
	hash cipher.AEAD
	mask cipher.Block
}

func newBlockSums(secret []byte) (*blockSums, error) {
	hash, err := derive(secret, "riparo block hashes")
	if err != nil {
		return nil, err
	}
	mask, err := derive(secret, "riparo block sums")
	if err != nil {
		return nil, err
	}
	s := new(blockSums)
	if s.hash, err = newAEAD(hash); err != nil {
		return nil, err
	}
	s.mask, err = aes.NewCipher(mask)
	return s, err
}

// of is the sum of the content of a block at an offset of the disk. It uses scratch.
func (s *blockSums) of(content []byte, at int64, scratch *sealScratch) plainSum {
	binary.BigEndian.PutUint64(scratch.nonce[4:], uint64(at))
	tag := s.hash.Seal(scratch.sum[:0], scratch.nonce[:], nil, content)
	s.mask.Encrypt(tag, tag)
	return plainSum(binary.LittleEndian.Uint64(tag))
}
