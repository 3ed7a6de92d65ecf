package vault

const (
	keptAppends = 2 // large ones are as long as a commit
	keptPresses = 8
)

// spares keeps things that are used again, a few of them for good. A sync.Pool holds
// some for each processor and loses all at each garbage collection: a process with
// little memory, where the spares are most of the heap, would collect and make them
// again all the time.
type spares[T any] struct {
	kept  chan T
	fresh func() T
}

func newSpares[T any](n int, fresh func() T) *spares[T] {
	return &spares[T]{kept: make(chan T, n), fresh: fresh}
}

func (s *spares[T]) get() T {
	select {
	case t := <-s.kept:
		return t
	default:
		return s.fresh()
	}
}

func (s *spares[T]) put(t T) {
	select {
	case s.kept <- t:
	default:
	}
}
