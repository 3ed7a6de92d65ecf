package image

import (
	"context"
	"io"
	"iter"
	"sync"

	"riparo/replication"
)

// watchedSource remembers the first error of a source. Over NBD a reader learns
// only its number.
type watchedSource struct {
	replication.Source

	mu  sync.Mutex // guards err
	err error
}

func (s *watchedSource) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.Source.ReadAt(p, off)
	if n < len(p) && err != nil && err != io.EOF {
		s.note(err)
	}
	return n, err
}

func (s *watchedSource) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for r, err := range s.Source.Regions(ctx) {
			if err != nil && ctx.Err() == nil {
				s.note(err)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (s *watchedSource) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *watchedSource) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
