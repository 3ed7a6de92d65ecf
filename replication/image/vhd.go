package image

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// A fixed VHD is the raw disk followed by a footer of 512 bytes. Source: "Virtual
// Hard Disk Image Format Specification", version 1.0, October 11, 2006.
const (
	vhdFooterLength = 512
	vhdSector       = 512
	// maxVHDSize is what Windows and Hyper-V accept of the format: 2040 GiB.
	maxVHDSize = 2040 << 30
	// maxVHDSectors is the most that the geometry can express; the specification
	// cuts a larger disk to it.
	maxVHDSectors = 65535 * 16 * 255
)

// vhdEpoch is where the time stamp counts from.
var vhdEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// vhdFooter describes a fixed disk of size bytes, a multiple of 512.
func vhdFooter(size int64, made time.Time) []byte {
	b := make([]byte, vhdFooterLength)
	copy(b[0:], "conectix")
	binary.BigEndian.PutUint32(b[8:], 2)           // features: the reserved bit, always set
	binary.BigEndian.PutUint32(b[12:], 0x00010000) // format version 1.0
	binary.BigEndian.PutUint64(b[16:], 1<<64-1)    // data offset: none, for a fixed disk
	binary.BigEndian.PutUint32(b[24:], uint32(made.Sub(vhdEpoch)/time.Second))
	// The creator decides how others find the size: after a creator that it does not
	// know, QEMU computes it from the geometry, which is too small as a rule. "win "
	// on "Wi2k" is what Hyper-V writes, and means the current size.
	copy(b[28:], "win ")
	binary.BigEndian.PutUint32(b[32:], 0x000a0000) // creator version
	copy(b[36:], "Wi2k")
	binary.BigEndian.PutUint64(b[40:], uint64(size)) // original size
	binary.BigEndian.PutUint64(b[48:], uint64(size)) // current size
	cylinders, heads, sectors := vhdGeometry(size)
	binary.BigEndian.PutUint16(b[56:], cylinders)
	b[58], b[59] = heads, sectors
	binary.BigEndian.PutUint32(b[60:], 2) // a fixed disk
	rand.Read(b[68:84])                   // unique id, a random UUID
	b[74], b[76] = b[74]&0x0f|0x40, b[76]&0x3f|0x80
	binary.BigEndian.PutUint32(b[64:], vhdChecksum(b))
	return b
}

// vhdChecksum is the one's complement of the sum of all bytes but its own.
func vhdChecksum(footer []byte) uint32 {
	var sum uint32
	for i, x := range footer {
		if i < 64 || i >= 68 {
			sum += uint32(x)
		}
	}
	return ^sum
}

// vhdGeometry is the algorithm of the specification's appendix, "CHS Calculation".
func vhdGeometry(size int64) (cylinders uint16, heads, sectors byte) {
	total := min(size/vhdSector, maxVHDSectors)
	var perTrack, tracks, h int64
	if total >= 65535*16*63 {
		perTrack, h = 255, 16
		tracks = total / perTrack
	} else {
		perTrack = 17
		tracks = total / perTrack
		h = max((tracks+1023)/1024, 4)
		if tracks >= h*1024 || h > 16 {
			perTrack, h = 31, 16
			tracks = total / perTrack
		}
		if tracks >= h*1024 {
			perTrack, h = 63, 16
			tracks = total / perTrack
		}
	}
	return uint16(tracks / h), byte(h), byte(perTrack)
}
