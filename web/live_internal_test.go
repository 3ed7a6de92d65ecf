package web

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAChangeIsPrintedOnceForAllWhoLook(t *testing.T) {
	r := rendered{pages: map[string]*renderedPage{}}
	var printed atomic.Int32
	print := func() (*renderedPage, error) {
		printed.Add(1)
		return &renderedPage{shape: "a"}, nil
	}
	look := func(noticed time.Time, key string) {
		var wait sync.WaitGroup
		for range 200 {
			wait.Go(func() {
				if p, err := r.get(key, noticed, print); err != nil || p.shape != "a" {
					t.Errorf("got %+v, %v", p, err)
				}
			})
		}
		wait.Wait()
	}
	look(time.Now(), "en")
	if n := printed.Load(); n != 1 {
		t.Errorf("200 browsers, one change: printed %d times", n)
	}
	look(time.Now(), "it")
	look(time.Now(), "en")
	if n := printed.Load(); n != 3 {
		t.Errorf("another language and another change: printed %d times, want 3", n)
	}
}

func TestAPageThatCannotBePrintedIsTriedAgain(t *testing.T) {
	r := rendered{pages: map[string]*renderedPage{}}
	broken := errors.New("broken")
	if _, err := r.get("en", time.Now(), func() (*renderedPage, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := r.get("en", time.Now().Add(-time.Hour), func() (*renderedPage, error) { return &renderedPage{}, nil }); err != nil {
		t.Errorf("after an error: %v", err)
	}
	for i := range 3 * maxRendered {
		r.get(string(rune(i)), time.Now(), func() (*renderedPage, error) { return &renderedPage{}, nil })
	}
	if len(r.pages) > maxRendered {
		t.Errorf("%d pages are kept: limit %d", len(r.pages), maxRendered)
	}
}
