package nbd

// aligned makes the borders between descriptors those of blocks of align bytes,
// as the protocol wants them. Some servers tell of a hole that begins inside of a
// block: nbdkit does behind a file's end. Such a block is taken for what costs only
// work if it is wrong: not zero, or dirty.
//
// A block that the list ends in the middle of is left out, to be asked about again,
// unless it is the first.
func aligned(list []descriptor, name string, align uint32) []descriptor {
	unaligned := false
	for _, d := range list {
		unaligned = unaligned || d.length%align != 0
	}
	if !unaligned {
		return list
	}
	combine, unknown := func(a, b uint32) uint32 { return a & b }, uint32(0)
	if name != AllocationContext {
		combine, unknown = func(a, b uint32) uint32 { return a | b }, StateDirty
	}
	var out []descriptor
	var part descriptor // the beginning of a block
	for _, d := range list {
		if part.length > 0 {
			n := min(align-part.length, d.length)
			part.length, part.flags = part.length+n, combine(part.flags, d.flags)
			d.length -= n
			if part.length == align {
				out = append(out, part)
				part = descriptor{}
			}
		}
		if whole := d.length - d.length%align; whole > 0 {
			out = append(out, descriptor{whole, d.flags})
		}
		if rest := d.length % align; rest > 0 && part.length == 0 {
			part = descriptor{rest, d.flags}
		}
	}
	if len(out) == 0 {
		out = append(out, descriptor{align, unknown})
	}
	return out
}
