package lab

import (
	"encoding/binary"
)

// Units of a lab disk, in bytes.
const (
	// BlockSize is what the workload writes at a time. Disk sizes are multiples.
	BlockSize = 4 << 10
	// grainSize is what change tracking tells apart, as QEMU's bitmaps do.
	grainSize = 64 << 10
	// clusterSize is the run in which initial content lies on a disk, so that
	// there are holes of a useful length between.
	clusterSize = 256 << 10

	grainBlocks = grainSize / BlockSize
)

// headerSize is what a written block says of itself before its content.
const headerSize = 48

// blockMagic begins every block that the workload wrote.
const blockMagic = 0x626c2d6f72617069

// stamp names one write of a workload.
type stamp struct {
	branch   uint32
	sequence uint64
	disk     uint8
	block    uint32
}

// mix spreads the bits of x over the word (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// draw is the random number of a seed and the things that it is drawn for.
func draw(seed uint64, of ...uint64) uint64 {
	for _, v := range of {
		seed = mix(seed + 0x9e3779b97f4a7c15 + v)
	}
	return seed
}

// fillWritten makes block the content of the write s: a header that names it, and
// bytes that only it has. len(block) is BlockSize.
func fillWritten(block []byte, seed uint64, s stamp) {
	binary.LittleEndian.PutUint64(block[0:], blockMagic)
	binary.LittleEndian.PutUint64(block[8:], seed)
	binary.LittleEndian.PutUint64(block[16:], s.sequence)
	binary.LittleEndian.PutUint32(block[24:], s.branch)
	binary.LittleEndian.PutUint32(block[28:], s.block)
	binary.LittleEndian.PutUint64(block[32:], uint64(s.disk))
	key := draw(seed, uint64(s.branch), s.sequence)
	binary.LittleEndian.PutUint64(block[40:], key)
	body := block[headerSize:]
	switch key % 8 {
	case 0: // a short record with room behind it
		fillText(body[:1024], key)
		clear(body[1024:])
	case 1, 2, 3, 4:
		fillText(body, key)
	default:
		fillNoise(body, key)
	}
}

// stampOf reads the header of a written block; ok is false for any other.
func stampOf(block []byte, seed uint64) (s stamp, ok bool) {
	if binary.LittleEndian.Uint64(block) != blockMagic || binary.LittleEndian.Uint64(block[8:]) != seed {
		return stamp{}, false
	}
	return stamp{
		sequence: binary.LittleEndian.Uint64(block[16:]),
		branch:   binary.LittleEndian.Uint32(block[24:]),
		block:    binary.LittleEndian.Uint32(block[28:]),
		disk:     block[32],
	}, true
}

// initialZero reports whether a block of a new disk is all zero: outside of the
// clusters that have content, and one block in eight inside them. Block 0 is the
// superblock's and not asked for here.
func (d diskIdentity) initialZero(seed uint64, number uint8, block uint32) bool {
	if !d.hasContent(block) {
		return true
	}
	return draw(seed, uint64(number)+1, uint64(block))%8 == 0
}

// hasContent reports whether block lies in a cluster with initial content. The
// clusters are spread evenly, so that their sum is InitialBytes up to one cluster.
func (d diskIdentity) hasContent(block uint32) bool {
	cluster := uint64(block) / (clusterSize / BlockSize)
	total := uint64(d.Size+clusterSize-1) / clusterSize
	wanted := min(uint64(d.InitialBytes+clusterSize-1)/clusterSize, total)
	if cluster >= total {
		return false // the disk was grown: new space is empty
	}
	return (cluster+1)*wanted/total > cluster*wanted/total
}

// fillInitial makes block the content that a new disk has there.
func (d diskIdentity) fillInitial(block []byte, seed uint64, number uint8, at uint32) {
	if !d.hasContent(at) {
		clear(block)
		return
	}
	key := draw(seed, uint64(number)+1, uint64(at))
	switch key % 8 {
	case 0:
		clear(block)
	case 1, 2, 3, 4:
		fillText(block, key)
	default:
		fillNoise(block, key)
	}
}

// fillNoise fills p, a multiple of 8 bytes long, with what does not compress.
func fillNoise(p []byte, key uint64) {
	for len(p) >= 8 {
		key += 0x9e3779b97f4a7c15
		binary.LittleEndian.PutUint64(p, mix(key))
		p = p[8:]
	}
}

// fillText fills p, a multiple of 8 bytes long, with words: they compress to
// about half, as logs and tables do.
func fillText(p []byte, key uint64) {
	for len(p) > 0 {
		key += 0x9e3779b97f4a7c15
		bits := mix(key)
		for i := 0; i < 8 && len(p) >= 8; i++ {
			binary.LittleEndian.PutUint64(p, words[bits&0xff])
			bits >>= 8
			p = p[8:]
		}
	}
}

// words are 256 words of eight letters.
var words = func() (table [256]uint64) {
	const text = "invoice customer payment received shipped order item quantity total balance account ledger " +
		"warehouse pallet supplier contract delivery return credit debit batch session token user " +
		"Torino Milano Genova Trieste harbor gate crane berth vessel cargo manifest pilot "
	for i := range table {
		var word [8]byte
		for j := range word {
			word[j] = text[(i*7+j)%len(text)]
		}
		table[i] = binary.LittleEndian.Uint64(word[:])
	}
	return table
}()

// allZero reports whether p, a multiple of 8 bytes long, holds zeroes only.
func allZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	return true
}
