package vault

import (
	"context"
	"errors"
	"testing"
	"time"

	"riparo/replication/vfs"
)

// TestNoDiskWaitsForTheCompactionOfAnother: nor does one that is compacted go without what
// was asked for meanwhile.
func TestNoDiskWaitsForTheCompactionOfAnother(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), compactOptions())
	scattered(t, v)
	newSender(t, v, "other", 64<<10).mark()
	d, other := v.disks["d"], v.disks["other"]
	troubled := func(d *disk) bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.trouble != nil
	}
	waitFor := func(what string, happened func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !happened(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within 20 s", what)
			}
		}
	}
	d.trouble, other.trouble = errors.New("not maintained"), errors.New("not maintained")

	ctx, stop := context.WithCancel(t.Context())
	paced, goOn, ended := make(chan struct{}, 1), make(chan struct{}), make(chan error)
	go func() {
		_, err := d.compact(ctx, func(ctx context.Context, _ int64) error {
			select {
			case paced <- struct{}{}:
			default:
			}
			<-goOn
			return nil
		})
		ended <- err
	}()
	<-paced
	v.stop, v.idle = stop, make(chan struct{})
	go v.background(ctx)
	v.nudge(d)
	waitFor("the disk that is compacted is passed", func() bool { return d.passed.Load() })
	v.nudge(other)
	waitFor("the other disk is maintained", func() bool { return !troubled(other) })
	if !troubled(d) {
		t.Error("a disk that was only passed counts as maintained")
	}
	close(goOn)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	waitFor("the disk is maintained after its compaction", func() bool { return !troubled(d) })
}

// TestNobodyWaitsForACompaction: a drop leaves it to what it is, who erases the disk or
// closes the vault ends it, and who comes after that finds out at once.
func TestNobodyWaitsForACompaction(t *testing.T) {
	for what, act := range map[string]func(t *testing.T, s *sender) bool{ // whether the compaction goes on
		"drop":  func(t *testing.T, s *sender) bool { s.drop(s.points[len(s.points)-2].id); return true },
		"erase": func(t *testing.T, s *sender) bool { return s.vault.Erase(t.Context(), "d") != nil },
		"close": func(t *testing.T, s *sender) bool { return s.vault.Close() != nil },
	} {
		t.Run(what, func(t *testing.T) {
			v := open(t, vfs.OS(), t.TempDir(), compactOptions())
			s := scattered(t, v)
			d := v.disks["d"]
			paced, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				_, err := d.compact(context.Background(), func(ctx context.Context, _ int64) error {
					select {
					case paced <- struct{}{}:
					default:
					}
					select {
					case <-goOn:
						return nil
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				})
				ended <- err
			}()
			<-paced
			acted := make(chan bool)
			go func() { acted <- act(t, s) }()
			within := func(what string) bool {
				select {
				case on := <-acted:
					return on
				case <-time.After(20 * time.Second):
					close(goOn)
					t.Fatalf("%s waits for a compaction", what)
				}
				return false
			}
			if within(what) {
				if what != "drop" {
					t.Error("it failed")
				}
				close(goOn)
			}
			if err := <-ended; err != nil {
				t.Errorf("the compaction ended with %v", err)
			}
			go func() { acted <- d.maintain(t.Context()) != nil }()
			if gone := within("a maintenance afterwards"); gone == (what == "drop") {
				t.Errorf("maintained: %t", !gone)
			}
		})
	}
}

// TestACompactionThatIsAboutToBeginGivesWay: it waits before the one who erases the disk.
func TestACompactionThatIsAboutToBeginGivesWay(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), compactOptions())
	scattered(t, v)
	d := v.disks["d"]
	if err := d.alone(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended, erased := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := d.compact(context.Background(), func(ctx context.Context, _ int64) error {
			<-ctx.Done() // it would go on for hours
			return context.Cause(ctx)
		})
		ended <- err
	}()
	time.Sleep(50 * time.Millisecond) // till it waits
	go func() { erased <- v.Erase(t.Context(), "d") }()
	time.Sleep(50 * time.Millisecond)
	d.release()
	for what, done := range map[string]chan error{"the compaction": ended, "the erasure": erased} {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s does not end", what)
		}
	}
}
