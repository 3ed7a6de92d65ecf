package kvm

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/qmp"
)

// watchLook is how often is looked for machines that were started, and, where the
// system does not tell of changed files, for changed definitions. What a running
// machine does is told by QEMU at once.
const watchLook = time.Second

// Watch reports changes until ctx ends. Each running machine's event monitor is held
// meanwhile; a second watcher of the same site sees changes by looking only.
func (s *Site) Watch(ctx context.Context, changed func(hypervisor.Ref)) error {
	w := &watcher{site: s, changed: changed, seen: map[string]time.Time{}, watched: map[string]bool{}}
	defer w.group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	files, stop, err := watchFolder(s.folder)
	if err != nil {
		return err
	}
	defer stop()
	tick := time.NewTicker(watchLook)
	defer tick.Stop()
	for first := true; ; first = false {
		if err := w.look(ctx, first); err != nil {
			return err
		}
		select {
		case file := <-files:
			if name, ok := strings.CutSuffix(file, ".json"); ok && machineName.MatchString(name) {
				w.tell(name)
			}
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type watcher struct {
	site  *Site
	group sync.WaitGroup // one goroutine for each running machine
	seen  map[string]time.Time

	mu      sync.Mutex // guards watched, and is held while changed is called
	changed func(hypervisor.Ref)
	watched map[string]bool
}

func (w *watcher) tell(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed(hypervisor.Ref(name))
}

// look compares the folder with what was seen last. What is there at first is known
// already: whoever watches has discovered before.
func (w *watcher) look(ctx context.Context, first bool) error {
	names, err := w.site.names()
	if err != nil {
		return err
	}
	now := map[string]time.Time{}
	for _, name := range names {
		info, err := os.Stat(w.site.definitionPath(name))
		if err != nil {
			continue // it went between two looks; the next one tells
		}
		now[name] = info.ModTime()
		if before, known := w.seen[name]; !first && (!known || !before.Equal(now[name])) {
			w.tell(name)
		}
		w.follow(ctx, name, first)
	}
	for name := range w.seen {
		if _, there := now[name]; !there {
			w.tell(name)
		}
	}
	w.seen = now
	return nil
}

// follow takes a machine's event monitor if it runs and nobody follows it.
func (w *watcher) follow(ctx context.Context, name string, first bool) {
	w.mu.Lock()
	following := w.watched[name]
	w.mu.Unlock()
	if following || !exists(w.site.socket(name, "events.qmp")) {
		return
	}
	w.mu.Lock()
	w.watched[name] = true
	w.mu.Unlock()
	w.group.Go(func() {
		defer func() {
			w.mu.Lock()
			delete(w.watched, name)
			w.mu.Unlock()
		}()
		conn, err := w.site.dial(ctx, name, "events")
		if err != nil {
			return // it has ended, or somebody else watches; looked at again
		}
		defer conn.Close()
		if !first {
			w.tell(name)
		}
		w.relay(ctx, name, conn)
	})
}

// powerEvents are those after which a machine's power may be another.
var powerEvents = map[string]bool{
	"RESUME": true, "STOP": true, "SHUTDOWN": true, "RESET": true, "SUSPEND": true, "WAKEUP": true, "GUEST_PANICKED": true, "BLOCK_IO_ERROR": true,
}

// relay tells of a running machine until it ends.
func (w *watcher) relay(ctx context.Context, name string, conn *qmp.Conn) {
	for {
		select {
		case event, ok := <-conn.Events():
			if !ok {
				w.tell(name)
				return
			}
			if powerEvents[event.Name] {
				w.tell(name)
			}
		case <-ctx.Done():
			return
		}
	}
}
