//go:build unix

package appliance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
)

const (
	killedSize = 64 << 20 // of the disk
	killedAt   = 24 << 20 // of that is compared, then the daemon is killed
	killedKeep = 1 << 20  // how often it keeps how far it came
)

// killedComparing is the daemon that takes its own life with SIGKILL in the midst of a
// comparison. The disk is slow, so that there is a midst.
func killedComparing(data, machine, ref string) error {
	ctx, stop := context.WithTimeout(context.Background(), guestLimit)
	defer stop()
	a, err := appliance.Open(ctx, appliance.Config{Data: data, Listen: "127.0.0.1:0", RetryUnit: 100 * time.Millisecond, KeepBytes: killedKeep})
	if err != nil {
		return err
	}
	world, err := a.Lab()
	if err != nil {
		return err
	}
	site, err := world.Site("milano")
	if err != nil {
		return err
	}
	if err := site.SlowDisk(hypervisor.Ref(ref), "vda", 250*time.Millisecond); err != nil {
		return err
	}
	go func() {
		for ; ; time.Sleep(5 * time.Millisecond) {
			var m store.Machine
			err := a.Rooms().Store.View(func(tx *store.Tx) (err error) {
				m, err = tx.Machines().Get(machine)
				return err
			})
			if err == nil && m.Disks[0].Brought != nil && m.Disks[0].Brought.Offset >= killedAt {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
	}()
	return errors.Join(errors.New("nobody killed it"), a.Run(ctx), a.Close())
}

// TestAComparisonThatWasKilledGoesOn: tracking is lost, and the daemon is killed with
// SIGKILL while it compares the disk with the vault. The next one goes on from the offset
// that was kept, not from zero, and the point is the disk, byte for byte.
func TestAComparisonThatWasKilledGoesOn(t *testing.T) {
	data := t.TempDir()
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: data})
	site := th.furnishWith(replication.DefaultPolicy(), killedSize, 16<<10)
	release, err := th.a.Rooms().Protection.Hold(t.Context(), th.id) // the next cycle is the killed daemon's
	if err != nil {
		t.Fatal(err)
	}
	before := th.machine().LastPoint.ID
	if err := site.LoseTracking(th.ref); err != nil {
		t.Fatal(err)
	}
	th.stop()
	release()

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "RIPARO_TEST_COMPARING="+data, "RIPARO_TEST_MACHINE="+string(th.id), "RIPARO_TEST_REF="+string(th.ref))
	var said bytes.Buffer
	child.Stdout, child.Stderr = &said, &said
	err = child.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the daemon ended with %v, want that it was killed: %s", err, &said)
	}

	a, err := appliance.Open(t.Context(), appliance.Config{Data: data, Listen: "127.0.0.1:0", KeepBytes: killedKeep})
	if err != nil {
		t.Fatal(err)
	}
	th.a = a
	m := th.machine()
	brought := m.Disks[0].Brought
	if brought == nil || brought.Offset < killedAt || brought.Offset >= killedSize || m.LastPoint.ID != before {
		t.Fatalf("the record says that %+v was brought, and the last point is %s; want between %d and %d, and no point since %s", brought, m.LastPoint.ID, killedAt, killedSize, before)
	}
	from := brought.Offset
	// No cycle comes before the one that is looked at.
	if _, err := a.Rooms().Protection.Change(th.id, func(m *store.Machine) error { m.Paused = true; return nil }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			t.Errorf("the appliance ended with: %v", err)
		}
	}()
	if release, err = a.Rooms().Protection.Hold(t.Context(), th.id); err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := a.Rooms().Protection.Change(th.id, func(m *store.Machine) error { m.Paused = false; return nil }); err != nil {
		t.Fatal(err)
	}
	point, facts, err := a.Rooms().Protection.TakePoint(t.Context(), th.id, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	said.Reset()
	for _, f := range facts {
		if f.Name == "vda" {
			said.WriteString(f.Value)
		}
	}
	var compared int64
	if _, err := fmt.Sscanf(said.String(), "delta: compared %d,", &compared); err != nil {
		t.Fatalf("the cycle says %q, want a delta that was compared: %v", &said, err)
	}
	// The workload writes a little all the time, also while the first one compared.
	if rest := killedSize - from; compared == 0 || compared > rest+killedAt/4 {
		t.Errorf("%d bytes were compared, want the %d that were left and little more", compared, rest)
	}
	if b := th.machine().Disks[0].Brought; b != nil {
		t.Errorf("it is part of a point now, and the record still says %+v", b)
	}
	th.judged("WEB01", point.ID)
	t.Logf("killed at %d of %d; the next one said: %s", from, killedSize, &said)
}
