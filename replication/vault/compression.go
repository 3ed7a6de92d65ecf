package vault

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/minio/minlz"
	"github.com/pierrec/lz4/v4"
)

// Compression is how the blocks of new data are compressed. It is chosen at each
// opening; a vault may hold blocks of all kinds.
type Compression string

const (
	LZ4   Compression = "lz4"   // the default
	MinLZ Compression = "minlz" // compresses three times as fast as LZ4, a tenth larger
	S2    Compression = "s2"    // between the two, also in size
	Zstd  Compression = "zstd"  // about an eighth smaller than LZ4, at half of its speed
)

// Compressions are all that there are.
var Compressions = []Compression{LZ4, MinLZ, S2, Zstd}

// ParseCompression reads the name of a compression.
func ParseCompression(name string) (Compression, error) {
	for _, c := range Compressions {
		if name == string(c) {
			return c, nil
		}
	}
	return "", fmt.Errorf("compression %q: want one of %v", name, Compressions)
}

func (c Compression) codec() codec {
	switch c {
	case MinLZ:
		return codecMinLZ
	case S2:
		return codecS2
	case Zstd:
		return codecZstd
	}
	return codecLZ4
}

// compressors are those of one goroutine, made when they are first needed.
type compressors struct {
	lz4  lz4.Compressor
	s2   []byte // what S2 needs as room
	zstd *zstd.Encoder
	out  []byte // what zstd gives
}

// compress compresses data into room by a codec. It gives the length of the result, 0
// if there is not room enough.
func (z *compressors) compress(by codec, room, data []byte) (int, error) {
	switch by {
	case codecLZ4:
		n, err := z.lz4.CompressBlock(data, room)
		if err == lz4.ErrInvalidSourceShortBuffer {
			return 0, nil
		}
		return n, err
	case codecMinLZ:
		// In room, or elsewhere if room and what lies behind it were too small.
		return fit(room, minlz.TryEncode(room, data, minlz.LevelSuperFast)), nil
	case codecS2:
		if z.s2 == nil {
			z.s2 = make([]byte, s2.MaxEncodedLen(blockBytes))
		}
		return fit(room, s2.Encode(z.s2, data)), nil
	case codecZstd:
		if z.zstd == nil {
			var err error
			z.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
				zstd.WithWindowSize(blockBytes), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return 0, fmt.Errorf("make a zstd compressor: %w", err)
			}
		}
		z.out = z.zstd.EncodeAll(data, z.out[:0])
		return fit(room, z.out), nil
	}
	return 0, fmt.Errorf("codec %d does not compress", by)
}

// fit copies p into room, if it fits and is not there.
func fit(room, p []byte) int {
	if len(p) > len(room) {
		return 0
	}
	if len(p) > 0 && &p[0] == &room[0] {
		return len(p)
	}
	return copy(room, p)
}

// unzstd opens blocks that zstd compressed, for all goroutines. It gives no more than
// a block, whatever a damaged one says.
var unzstd = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(blockBytes), zstd.IgnoreChecksum(true))
})

// decode restores the whole block of e into p, which has its length.
func (e *entry) decode(p, stored []byte) error {
	n := 0
	var err error
	switch e.codec {
	case codecRaw:
		if len(stored) != len(p) {
			return fmt.Errorf("a raw block of %d bytes is stored in %d", len(p), len(stored))
		}
		copy(p, stored)
		return nil
	case codecLZ4:
		n, err = lz4.UncompressBlock(stored, p)
	case codecMinLZ:
		if n, err = minlz.DecodedLen(stored); err == nil && n == len(p) {
			_, err = minlz.Decode(p[:n:n], stored)
		}
	case codecS2:
		if n, err = s2.DecodedLen(stored); err == nil && n == len(p) {
			_, err = s2.Decode(p, stored)
		}
	case codecZstd:
		var d *zstd.Decoder
		if d, err = unzstd(); err == nil {
			var out []byte
			out, err = d.DecodeAll(stored, p[:0:len(p)])
			n = len(out)
		}
	default:
		return fmt.Errorf("codec %d is unknown to this version", e.codec)
	}
	if err == nil && n != len(p) {
		err = fmt.Errorf("it gives %d bytes instead of %d", n, len(p))
	}
	return err
}
