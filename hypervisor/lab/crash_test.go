package lab_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
)

// TestMain runs a process that is going to be killed, when a test asks for it.
func TestMain(m *testing.M) {
	if dir := os.Getenv("RIPARO_LAB_VICTIM"); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// plainVault is copies of disks that survive a process: files, and the name of the
// point that each is known to hold. A point counts when its name was written.
type plainVault struct{ dir string }

func (v plainVault) held() (map[string]replication.PointID, error) {
	content, err := os.ReadFile(filepath.Join(v.dir, "held.json"))
	if errors.Is(err, os.ErrNotExist) {
		return map[string]replication.PointID{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]replication.PointID{}
	return out, json.Unmarshal(content, &out)
}

// cycle captures a machine into the vault.
func (v plainVault) cycle(ctx context.Context, s *lab.Site, ref hypervisor.Ref, point replication.PointID) error {
	held, err := v.held()
	if err != nil {
		return err
	}
	m, err := s.Machine(ctx, ref)
	if err != nil {
		return err
	}
	request := hypervisor.PointRequest{Ref: ref, Point: point, Since: held, Want: replication.AppConsistent}
	for _, d := range m.Disks {
		request.Disks = append(request.Disks, d.Key)
	}
	c, err := s.BeginPoint(ctx, request)
	if err != nil {
		return err
	}
	next := map[string]replication.PointID{}
	for _, d := range c.Disks() {
		if held[d.Key()] != "" && d.Mode() != hypervisor.Delta {
			return fmt.Errorf("disk %s since %s is %s: %s", d.Key(), held[d.Key()], d.Mode(), d.Reason())
		}
		if err := v.apply(ctx, d); err != nil {
			return err
		}
		next[d.Key()] = point
	}
	content, err := json.Marshal(next)
	if err != nil {
		return err
	}
	path := filepath.Join(v.dir, "held.json")
	if err := errors.Join(os.WriteFile(path+".next", content, 0o600), os.Rename(path+".next", path)); err != nil {
		return err
	}
	return c.Commit(ctx)
}

func (v plainVault) apply(ctx context.Context, d hypervisor.CapturedDisk) error {
	f, err := os.OpenFile(filepath.Join(v.dir, d.Key()), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(d.Size()); err != nil {
		return err
	}
	for region, err := range d.Regions(ctx) {
		if err != nil {
			return err
		}
		p := make([]byte, region.Length)
		if !region.Zero {
			if _, err := d.ReadAt(p, region.Offset); err != nil {
				return err
			}
		}
		if _, err := f.WriteAt(p, region.Offset); err != nil {
			return err
		}
	}
	return nil
}

// sources opens what the vault holds.
func (v plainVault) sources(t *testing.T) map[string]replication.Source {
	t.Helper()
	held, err := v.held()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]replication.Source{}
	for key := range held {
		f, err := os.Open(filepath.Join(v.dir, key))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		out[key] = file{f}
	}
	return out
}

// victim opens the world in dir and does all kinds of things with it, each told on
// standard output before it begins, until it is killed.
func victim(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := lab.OpenWorld(filepath.Join(dir, "world"), lab.Options{})
	if err != nil {
		return err
	}
	s, err := w.Site("primary")
	if err != nil {
		return err
	}
	ref := hypervisor.Ref("WEB01")
	if _, err := s.Machine(ctx, ref); errors.Is(err, hypervisor.ErrNoMachine) {
		spec := small(41)
		spec.Churn = 20 * mib
		if _, err := s.AddMachine(spec); err != nil {
			return err
		}
	}
	go s.Run(ctx)
	vault := plainVault{filepath.Join(dir, "vault")}
	for i := 0; ; i++ {
		fmt.Println("round", i)
		if err := s.Start(ctx, ref, hypervisor.StartOptions{}); err != nil {
			return err
		}
		if _, err := s.Step(ctx, ref, 20); err != nil {
			return err
		}
		fmt.Println("capture", i)
		if err := vault.cycle(ctx, s, ref, replication.PointID(fmt.Sprintf("p%d-%d", time.Now().UnixNano(), i))); err != nil {
			return err
		}
		fmt.Println("captured", i)
		if err := change(ctx, s, ref, i); err != nil {
			return err
		}
	}
}

// change does one of the rarer things.
func change(ctx context.Context, s *lab.Site, ref hypervisor.Ref, i int) error {
	m, err := s.Machine(ctx, ref)
	if err != nil {
		return err
	}
	switch i % 7 {
	case 1:
		d := m.Disks[i%len(m.Disks)]
		fmt.Println("grow", d.Key)
		return s.GrowDisk(ctx, ref, d.Key, d.Size+lab.BlockSize)
	case 2:
		if len(m.Disks) < 5 {
			key := fmt.Sprintf("vd%c", 'a'+len(m.Disks))
			fmt.Println("add", key)
			return s.AddDisk(ctx, ref, lab.DiskSpec{Key: key, Size: mib, InitialBytes: mib / 4})
		}
	case 3:
		fmt.Println("power off")
		_, err := s.Stop(ctx, ref, 0)
		return err
	case 4:
		fmt.Println("shut down")
		_, err := s.Stop(ctx, ref, time.Second)
		return err
	case 5:
		fmt.Println("create")
		replica, err := s.Create(ctx, hypervisor.Spec{Name: "replica", Owner: "m-1/test", Disks: []hypervisor.DiskSpec{{Key: "vda", Size: mib}}})
		if err != nil {
			return err
		}
		fmt.Println("remove")
		return s.Remove(ctx, replica.Ref)
	}
	return nil
}

// TestAKilledProcessLosesNothing kills a process again and again in the middle of
// whatever it does, and then looks at what is there.
func TestAKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "vault"), 0o700); err != nil {
		t.Fatal(err)
	}
	const seed = 5
	random := rand.New(rand.NewPCG(seed, 1))
	for round := range len(seeds(t, 15)) {
		last := kill(t, dir, random)
		lookAt(t, dir, fmt.Sprintf("seed %d: killed in round %d at %q", seed, round, last))
	}
}

// kill starts a victim and kills it after some of its lines. It returns the last.
func kill(t *testing.T, dir string, random *rand.Rand) (last string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self)
	command.Env = append(os.Environ(), "RIPARO_LAB_VICTIM="+dir)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for n := 1 + random.IntN(60); n > 0 && lines.Scan(); n-- {
		last = lines.Text()
	}
	// A little later, in the middle of what the line announced.
	for until := time.Now().Add(time.Duration(random.IntN(3000)) * time.Microsecond); time.Now().Before(until); {
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, output); err != nil {
		t.Fatal(err)
	}
	err = command.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != -1 {
		t.Fatalf("the victim ended by itself at %q: %v", last, err)
	}
	return last
}

// lookAt opens what a killed process left.
func lookAt(t *testing.T, dir, when string) {
	t.Helper()
	w, err := lab.OpenWorld(filepath.Join(dir, "world"), lab.Options{})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}()
	s := site(t, w, "primary")
	m, err := s.Machine(t.Context(), "WEB01")
	if errors.Is(err, hypervisor.ErrNoMachine) {
		return // killed before it was finished; the next one makes it anew
	}
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if m.Power == hypervisor.Running {
		step(t, s, m.Ref, 30) // it goes on
	}
	vault := plainVault{filepath.Join(dir, "vault")}
	if err := vault.cycle(t.Context(), s, m.Ref, replication.PointID(fmt.Sprintf("look%d", time.Now().UnixNano()))); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if v := judge(t, w, "WEB01", vault.sources(t)); !v.OK {
		t.Fatalf("%s: the copies are no instant of the machine: %s", when, v.Why)
	}
}
