package vault

// flow is a sorted map that is read once from its beginning.
type flow interface {
	// advance moves to the next entry and reports whether there is one.
	advance() bool
	// value is the entry that advance moved to.
	value() *entry
	// failed is the error that ended the flow early.
	failed() error
}

func (c *cursor) value() *entry { return &c.current }
func (c *cursor) failed() error { return c.err }

// listFlow reads a map in memory.
type listFlow struct {
	list []entry
	next int
}

func (l *listFlow) advance() bool { l.next++; return l.next <= len(l.list) }
func (l *listFlow) value() *entry { return &l.list[l.next-1] }
func (l *listFlow) failed() error { return nil }

// overlayFlow lays one flow over another, as overlay does for lists.
type overlayFlow struct {
	older, newer   flow
	o, n           entry
	oValid, nValid bool
	current        entry
	err            error // of either; asked for once, when it ends: there may be thousands below
}

func newOverlayFlow(older, newer flow) flow {
	f := &overlayFlow{older: older, newer: newer}
	f.nextOlder()
	f.nextNewer()
	return f
}

// mergeFlows lays flows over each other, the oldest first.
func mergeFlows(flows []flow) flow {
	switch len(flows) {
	case 0:
		return &listFlow{}
	case 1:
		return flows[0]
	}
	middle := len(flows) / 2
	return newOverlayFlow(mergeFlows(flows[:middle]), mergeFlows(flows[middle:]))
}

func (f *overlayFlow) nextOlder() {
	if f.oValid = f.older.advance(); f.oValid {
		f.o = *f.older.value()
	} else if f.err == nil {
		f.err = f.older.failed()
	}
}

func (f *overlayFlow) nextNewer() {
	if f.nValid = f.newer.advance(); f.nValid {
		f.n = *f.newer.value()
	} else if f.err == nil {
		f.err = f.newer.failed()
	}
}

func (f *overlayFlow) advance() bool {
	if f.err != nil {
		return false
	}
	switch {
	case !f.nValid && !f.oValid:
		return false
	case !f.nValid || f.oValid && f.o.end() <= f.n.offset:
		f.current = f.o
		f.nextOlder()
	case f.oValid && f.o.offset < f.n.offset:
		f.current = f.o.part(f.o.offset, f.n.offset)
		f.o = f.o.part(f.n.offset, f.o.end())
	default:
		f.current = f.n
		for f.oValid && f.o.end() <= f.n.end() {
			f.nextOlder()
		}
		if f.oValid && f.o.offset < f.n.end() {
			f.o = f.o.part(f.n.end(), f.o.end())
		}
		f.nextNewer()
	}
	return f.err == nil
}

func (f *overlayFlow) value() *entry { return &f.current }

func (f *overlayFlow) failed() error { return f.err }
