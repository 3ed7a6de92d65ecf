package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"

	"riparo/replication"
)

// A sealed block is stored as an envelope, the sealed bytes and their tag. What is
// sealed is the block as it would be stored without encryption.
const (
	// envelopeBytes: session (8), salt of the opening (8), number of the block within
	// the opening (8).
	envelopeBytes = 24
	tagBytes      = 16
	// sealedExtra is what sealing adds to a block.
	sealedExtra = envelopeBytes + tagBytes
)

// cipherGCM in the header of a record says that blocks of it are sealed.
const cipherGCM = 1

// sealer seals blocks of one disk, during one opening of the vault. It is never
// changed and may be used by several goroutines.
type sealer struct {
	key     uint32 // number of the data key
	session uint64
	salt    uint64
	aead    cipher.AEAD
	sums    *blockSums
	blocks  *atomic.Uint64 // of the open vault: how many blocks it has sealed
}

// sealScratch are the small inputs of a cipher, which would be allocated for every
// block otherwise.
type sealScratch struct {
	nonce [12]byte
	bound [16]byte
	sum   [aes.BlockSize]byte
}

var sealScratches = sync.Pool{New: func() any { return new(sealScratch) }}

// set prepares nonce and bound data for a block. The nonce is its number; the key
// already stands for vault, disk and opening.
func (s *sealScratch) set(number uint64, at int64, plain uint32, c codec) {
	binary.BigEndian.PutUint64(s.nonce[4:], number)
	binary.BigEndian.PutUint64(s.bound[0:], uint64(at))
	binary.BigEndian.PutUint32(s.bound[8:], plain)
	binary.BigEndian.PutUint32(s.bound[12:], uint32(c))
}

// seal seals a block in place: p has room for the envelope, what is to be sealed, and
// room for the tag.
func (s *sealer) seal(p []byte, at int64, plain uint32, c codec, scratch *sealScratch) {
	number := s.blocks.Add(1)
	binary.LittleEndian.PutUint64(p[0:], s.session)
	binary.LittleEndian.PutUint64(p[8:], s.salt)
	binary.LittleEndian.PutUint64(p[16:], number)
	scratch.set(number, at, plain, c)
	s.aead.Seal(p[envelopeBytes:envelopeBytes], scratch.nonce[:], p[envelopeBytes:len(p)-tagBytes], scratch.bound[:])
}

var (
	errNotSealed = errors.New("a block is not sealed, but the vault is encrypted")
	errSealed    = errors.New("a block is sealed, but the vault is not encrypted")
	errForged    = errors.New("a block does not open: it was changed, or belongs elsewhere")
)

// unseal opens the stored bytes of a block in place, and gives what a codec reads.
// Blocks that are not sealed, of vaults without encryption, stay as they are.
func (k *dataKeys) unseal(e *entry, stored []byte) ([]byte, error) {
	if k == nil && e.key == 0 {
		return stored, nil
	}
	switch {
	case k == nil:
		return nil, errSealed
	case e.key == 0:
		return nil, errNotSealed
	}
	if len(stored) <= sealedExtra {
		return nil, errForged
	}
	le := binary.LittleEndian
	aead, err := k.opener(opening{e.key, le.Uint64(stored), le.Uint64(stored[8:])})
	if err != nil {
		return nil, err
	}
	s := sealScratches.Get().(*sealScratch)
	defer sealScratches.Put(s)
	s.set(le.Uint64(stored[16:]), e.offset-int64(e.inner), e.plain, e.codec)
	inner := stored[envelopeBytes:]
	if inner, err = aead.Open(inner[:0], s.nonce[:], inner, s.bound[:]); err != nil {
		return nil, errForged
	}
	return inner, nil
}

// sumOf is the checksum of a block's content as its row has it.
func (k *dataKeys) sumOf(key uint32, at int64, content []byte) (plainSum, error) {
	if k == nil || key == 0 {
		return sumOf(content), nil
	}
	d, err := k.find(key)
	if err != nil {
		return 0, err
	}
	s := sealScratches.Get().(*sealScratch)
	defer sealScratches.Put(s)
	return d.sums.of(content, at, s), nil
}

// checkBlock opens and decompresses the stored bytes of a block into plain, and
// compares all its checksums; without master key only that of the stored bytes can be.
// The stored bytes are used up.
func (k *dataKeys) checkBlock(e *entry, stored, plain []byte) error {
	if checksum(stored) != e.crc {
		return errors.New("a block has a wrong checksum")
	}
	if k != nil && k.vault.locked() {
		return nil
	}
	inner, err := k.unseal(e, stored)
	if err != nil {
		return err
	}
	plain = plain[:e.plain]
	if err := e.decode(plain, inner); err != nil {
		return err
	}
	sum, err := k.sumOf(e.key, e.offset-int64(e.inner), plain)
	if err == nil && sum != e.sum {
		err = errors.New("a block decompresses to something else than was written")
	}
	return err
}

// repeat gives the row and the bytes with which a stored block is appended once more,
// elsewhere in the log. e is any part of it, and stored are its bytes as they were
// read, which are used up. A block under the newest data key stays as it is: the same
// block under the same nonce tells nothing new. One of an older key is sealed anew, so
// that the old key is needed no more.
func (d *disk) repeat(e *entry, stored []byte) (row, []byte, error) {
	at := e.offset - int64(e.inner)
	r := row{extent: replication.Extent{Offset: at, Length: int64(e.plain)}, stored: e.stored, crc: e.crc, sum: e.sum, codec: e.codec, key: e.key}
	if checksum(stored) != e.crc {
		return row{}, nil, errors.New("a block has a wrong checksum")
	}
	s, err := d.keys.sealer()
	if err != nil {
		return row{}, nil, err
	}
	if s == nil || s.key == e.key {
		return r, stored, nil
	}
	content := make([]byte, e.plain)
	if err := d.keys.checkBlock(e, stored, content); err != nil {
		return row{}, nil, err
	}
	// It was opened in place: what a codec reads lies behind the envelope, and the
	// envelope and the tag are written over.
	scratch := sealScratches.Get().(*sealScratch)
	defer sealScratches.Put(scratch)
	s.seal(stored, at, e.plain, e.codec, scratch)
	r.key, r.crc, r.sum = s.key, checksum(stored), s.sums.of(content, at, scratch)
	return r, stored, nil
}
