package sim

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"riparo/replication"
)

// verb says what a frame asks for, or answers.
type verb byte

const (
	hello verb = iota + 1
	prepare
	write
	mark
	hashes
	answer
)

// outcome of a call, in its answer.
type outcome byte

const (
	done    outcome = iota
	stale           // somebody else owns the disk
	refused         // try again later, from the beginning
	reset           // the connection is none any more
)

// frame is what travels. A call and its answer have the same number.
type frame struct {
	verb    verb
	host    byte
	session uint64 // of the sender, higher with every connection
	life    uint64 // of the target, as the sender was told
	call    uint64
	outcome outcome

	disk  replication.Disk
	epoch replication.Epoch
	batch replication.Batch
	mark  replication.Mark
	ask   replication.Extent
	chunk int64
	state replication.DiskState
	sums  []replication.Sum
}

// bytes are the frame with its checksum.
func (f *frame) bytes() []byte {
	p := packer{}
	p.p = append(p.p, byte(f.verb), f.host, byte(f.outcome))
	p.number(f.session, f.life, f.call)
	switch f.verb {
	case prepare:
		p.disk(f.disk)
		p.number(uint64(f.epoch))
	case write:
		p.text(string(f.batch.Disk))
		p.number(uint64(f.batch.Epoch), uint64(f.batch.Sequence), uint64(len(f.batch.Changes)))
		for _, c := range f.batch.Changes {
			p.number(uint64(c.Offset), uint64(c.Length), uint64(len(c.Data)))
			p.p = append(p.p, c.Data...)
		}
	case mark:
		m := f.mark
		p.text(string(m.Disk))
		p.text(string(m.Point))
		p.number(uint64(m.Epoch), uint64(m.Sequence), uint64(m.Time.UnixMilli()), uint64(m.Size))
	case hashes:
		p.text(string(f.disk.ID))
		p.number(uint64(f.ask.Offset), uint64(f.ask.Length), uint64(f.chunk))
	case answer:
		p.disk(f.state.Disk)
		p.text(string(f.state.Point))
		unmarked := uint64(0)
		if f.state.Unmarked {
			unmarked = 1
		}
		p.number(uint64(f.state.Epoch)<<1|unmarked, uint64(f.state.Sequence), uint64(len(f.sums)))
		for _, s := range f.sums {
			p.p = append(p.p, s[:]...)
		}
	}
	return binary.LittleEndian.AppendUint32(p.p, crc32.ChecksumIEEE(p.p))
}

// parseFrame reads a frame; not ok when it did not arrive as it was sent.
func parseFrame(b []byte) (*frame, bool) {
	if len(b) < 31 {
		return nil, false
	}
	body := b[:len(b)-4]
	if binary.LittleEndian.Uint32(b[len(body):]) != crc32.ChecksumIEEE(body) {
		return nil, false
	}
	f := &frame{verb: verb(body[0]), host: body[1], outcome: outcome(body[2])}
	u := unpacker{p: body[3:]}
	f.session, f.life, f.call = u.number(), u.number(), u.number()
	switch f.verb {
	case prepare:
		f.disk = u.disk()
		f.epoch = replication.Epoch(u.number())
	case write:
		f.batch.Disk = replication.DiskID(u.text())
		f.batch.Epoch, f.batch.Sequence = replication.Epoch(u.number()), replication.Sequence(u.number())
		for n := u.number(); n > 0 && !u.short; n-- {
			c := replication.Change{Extent: replication.Extent{Offset: int64(u.number()), Length: int64(u.number())}}
			if length := u.number(); length > 0 {
				c.Data = u.bytes(length)
			}
			f.batch.Changes = append(f.batch.Changes, c)
		}
	case mark:
		f.mark.Disk, f.mark.Point = replication.DiskID(u.text()), replication.PointID(u.text())
		f.mark.Epoch, f.mark.Sequence = replication.Epoch(u.number()), replication.Sequence(u.number())
		f.mark.Time, f.mark.Size = time.UnixMilli(int64(u.number())).UTC(), int64(u.number())
		f.mark.Consistency = replication.CrashConsistent
		f.mark.Members = []replication.DiskID{disks[0].ID, disks[1].ID}
	case hashes:
		f.disk.ID = replication.DiskID(u.text())
		f.ask = replication.Extent{Offset: int64(u.number()), Length: int64(u.number())}
		f.chunk = int64(u.number())
	case answer:
		f.state.Disk, f.state.Point = u.disk(), replication.PointID(u.text())
		epoch := u.number()
		f.state.Epoch, f.state.Unmarked, f.state.Sequence = replication.Epoch(epoch>>1), epoch&1 == 1, replication.Sequence(u.number())
		for n := u.number(); n > 0 && !u.short; n-- {
			f.sums = append(f.sums, replication.Sum(u.bytes(uint64(len(replication.Sum{})))))
		}
	}
	return f, !u.short
}

type packer struct{ p []byte }

func (p *packer) number(list ...uint64) {
	for _, n := range list {
		p.p = binary.LittleEndian.AppendUint64(p.p, n)
	}
}

func (p *packer) text(s string) {
	p.number(uint64(len(s)))
	p.p = append(p.p, s...)
}

func (p *packer) disk(d replication.Disk) {
	p.text(string(d.ID))
	p.text(string(d.Machine))
	p.number(uint64(d.Size))
}

type unpacker struct {
	p     []byte
	short bool // more was asked for than there is
}

func (u *unpacker) bytes(n uint64) []byte {
	if n > uint64(len(u.p)) {
		u.short = true
		return make([]byte, min(n, 64))
	}
	b := u.p[:n:n]
	u.p = u.p[n:]
	return b
}

func (u *unpacker) number() uint64 { return binary.LittleEndian.Uint64(u.bytes(8)) }
func (u *unpacker) text() string   { return string(u.bytes(u.number())) }

func (u *unpacker) disk() replication.Disk {
	return replication.Disk{ID: replication.DiskID(u.text()), Machine: replication.MachineID(u.text()), Size: int64(u.number())}
}
