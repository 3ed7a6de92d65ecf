package vault

import (
	"fmt"

	"riparo/replication"
)

const (
	// blockBytes is the unit of compression and of reading: where LZ4 is fastest,
	// and small enough that a random read of 4 KiB stays cheap. Blocks lie on its
	// multiples, so that new data covers old blocks whole.
	blockBytes = 64 << 10
	// maxStoredBytes is the longest that a block may be stored: raw, with 64 bytes
	// for what sealing adds, which takes sealedExtra of them.
	maxStoredBytes = blockBytes + 64
	// minGain: a block that shrinks by less than 1/16 is stored raw, since every reader
	// would pay for it.
	minGain = 16
)

// press is what makes blocks out of changes.
type press struct {
	compressors
	*sealer // nil: nothing is sealed
	scratch sealScratch
}

var presses = newSpares(keptPresses, func() *press { return new(press) })

// content is the content of a batch, ready for a record.
type content struct {
	table   []row
	payload []byte
}

// encode compresses and seals the changes of a batch to the disk. It may be called for
// several batches at once.
func (d *disk) encode(changes []replication.Change) (content, error) {
	s, err := d.keys.sealer()
	if err != nil {
		return content{}, err
	}
	encoders <- struct{}{}
	defer func() { <-encoders }()
	return encode(d.vault.options.Compression.codec(), s, changes)
}

// encode compresses changes by a codec, and seals them if there is a sealer.
func encode(by codec, s *sealer, changes []replication.Change) (content, error) {
	total := 0
	for _, c := range changes {
		total += len(c.Data)
	}
	out := content{
		table: make([]row, 0, len(changes)+total/blockBytes),
	}
	if s != nil {
		// A change may begin and end inside a block.
		total += (total/blockBytes + 2*len(changes)) * sealedExtra
	}
	out.payload = takePayload(total)
	z := presses.get()
	z.sealer = s
	defer presses.put(z)
	for _, c := range changes {
		if c.Zero() {
			out.zero(c.Extent)
			continue
		}
		for at := c.Offset; at < c.End(); {
			end := min(c.End(), (at/blockBytes+1)*blockBytes)
			if err := out.block(z, by, at, c.Data[at-c.Offset:end-c.Offset]); err != nil {
				return content{}, fmt.Errorf("compress %d bytes at %d: %w", end-at, at, err)
			}
			at = end
		}
	}
	return out, nil
}

// payloads are used again, those of large batches: they would be most of what the
// vault allocates.
var payloads = newSpares(window, func() []byte { return nil })

const (
	// smallPayload and anything below is left to the garbage collector.
	smallPayload = 256 << 10
	// payloadStep: few sizes, so that one fits the next batch.
	payloadStep = 32 << 10
)

func takePayload(size int) []byte {
	if size <= smallPayload {
		return make([]byte, 0, size)
	}
	p := payloads.get()
	if cap(p) < size {
		p = make([]byte, 0, (size+payloadStep-1)/payloadStep*payloadStep)
	}
	return p[:0]
}

func returnPayload(p []byte) {
	if cap(p) > smallPayload {
		payloads.put(p)
	}
}

// zero adds an extent without data.
func (c *content) zero(e replication.Extent) {
	if n := len(c.table); n > 0 && c.table[n-1].codec == codecZero && c.table[n-1].extent.End() == e.Offset {
		c.table[n-1].extent.Length += e.Length
		return
	}
	c.table = append(c.table, row{extent: e, codec: codecZero})
}

// block adds one block of data.
func (c *content) block(z *press, by codec, at int64, data []byte) error {
	extent := replication.Extent{Offset: at, Length: int64(len(data))}
	if replication.IsZero(data) {
		c.zero(extent)
		return nil
	}
	r := row{extent: extent, codec: by}
	start := len(c.payload)
	begin, behind := start, 0
	if z.sealer != nil {
		begin, behind = start+envelopeBytes, tagBytes
	}
	room := c.payload[begin : begin+len(data)-len(data)/minGain]
	n, err := z.compress(by, room, data)
	if err != nil {
		return err
	}
	if n == 0 { // it does not fit: it does not shrink
		n = copy(c.payload[begin:begin+len(data)], data)
		r.codec = codecRaw
	}
	c.payload = c.payload[:begin+n+behind]
	if z.sealer != nil {
		r.key = z.key
		z.seal(c.payload[start:], at, uint32(len(data)), r.codec, &z.scratch)
		r.sum = z.sums.of(data, at, &z.scratch)
	} else {
		r.sum = sumOf(data)
	}
	r.stored = uint32(len(c.payload) - start)
	r.crc = checksum(c.payload[start:])
	c.table = append(c.table, r)
	return nil
}
