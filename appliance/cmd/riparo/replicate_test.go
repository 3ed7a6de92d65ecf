package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/proof"
	"riparo/replication/vault"
	"riparo/replication/vfs"
)

// noise is n bytes that do not compress and are never zero.
func noise(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := rnd.Uint64() | 0x0101010101010101
		for k := i; k < min(i+8, n); k++ {
			b[k] = byte(v)
			v >>= 8
		}
	}
	return b
}

// lines writes extents as --changed takes them.
func lines(t *testing.T, path string, extents []replication.Extent) string {
	t.Helper()
	var text strings.Builder
	for _, e := range extents {
		fmt.Fprintf(&text, "{\"offset\":%d,\"length\":%d}\n", e.Offset, e.Length)
	}
	return write(t, path, []byte(text.String()))
}

// overwrite changes a file in place.
func overwrite(t *testing.T, path string, at int64, data []byte) replication.Extent {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
	return replication.Extent{Offset: at, Length: int64(len(data))}
}

func TestEveryWayOfReplicatingGivesBackTheSource(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 7))
	dir := t.TempDir()
	vault, source := filepath.Join(dir, "vault"), filepath.Join(dir, "a.raw")
	sparse(t, source, 20<<20+777, map[int64][]byte{0: noise(rnd, 3<<20), 11 << 20: noise(rnd, 100_000), 20<<20 + 700: noise(rnd, 77)})
	replicate := func(more ...string) replicated {
		t.Helper()
		return must[replicated](t, append([]string{"disk", "replicate", source, "--vault", vault, "--disk", "d"}, more...)...)
	}
	check := func(r replicated, mode string, changedAtLeast, changedAtMost int64) {
		t.Helper()
		sameDisk(t, mode, exported(t, vault, r.Point), source)
		if r.Mode != mode || r.ChangedBytes < changedAtLeast || r.ChangedBytes > changedAtMost {
			t.Errorf("got %+v, want mode %s and %d to %d bytes changed", r, mode, changedAtLeast, changedAtMost)
		}
	}
	check(replicate(), modeInitial, 3<<20+100_000+77, 3<<20+100_000+77+3*4096)
	check(replicate(), modeResync, 0, 0)

	e := overwrite(t, source, 5<<20+5, noise(rnd, 10_000))
	check(replicate("--changed", lines(t, filepath.Join(dir, "changed"), []replication.Extent{e})), modeDelta, 10_000, 10_000)
	check(replicate("--changed", lines(t, filepath.Join(dir, "changed"), nil)), modeDelta, 0, 0)

	overwrite(t, source, 1<<20, make([]byte, 1<<20)) // data becomes zero
	check(replicate(), modeResync, 1<<20, 1<<20)

	if err := os.Truncate(source, 7<<20+1); err != nil {
		t.Fatal(err)
	}
	check(replicate("--changed", lines(t, filepath.Join(dir, "changed"), nil)), modeDelta, 0, 0)

	if err := os.Truncate(source, 30<<20); err != nil {
		t.Fatal(err)
	}
	overwrite(t, source, 29<<20, noise(rnd, 4096))
	// The list says nothing of what lies beyond the old end; it is read anyway.
	check(replicate("--changed", lines(t, filepath.Join(dir, "changed"), nil)), modeDelta, 4096, 23<<20)

	if got := must[listing](t, "disk", "points", "--vault", vault, "--disk", "d"); len(got.Points) != 7 {
		t.Errorf("%d points listed, want 7", len(got.Points))
	}
	if got := must[map[string]any](t, "disk", "verify", "--vault", vault); got["verified"] != true {
		t.Errorf("verify: %v", got)
	}
}

func TestPruneKeepsWhatTheRulesSayAndAlwaysTheNewest(t *testing.T) {
	dir := t.TempDir()
	vault, source := filepath.Join(dir, "vault"), filepath.Join(dir, "a.raw")
	var last replicated
	for i := range 4 {
		write(t, source, noise(rand.New(rand.NewPCG(uint64(i), 0)), 100_000))
		last = must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "d")
	}
	prune := func(keep string) (dropped int) {
		got := must[struct{ Disks []pruned }](t, "disk", "prune", "--vault", vault, "--keep", keep)
		return len(got.Disks[0].Dropped)
	}
	if n := prune("1h:all"); n != 0 {
		t.Errorf("1h:all dropped %d points of the last hour", n)
	}
	if n := prune("1ns:all"); n != 3 {
		t.Errorf("1ns:all dropped %d points, want all but the newest", n)
	}
	if got := must[listing](t, "disk", "points", "--vault", vault); len(got.Points) != 1 || got.Points[0].ID != last.Point {
		t.Errorf("got %+v, want only %s", got, last.Point)
	}
	sameDisk(t, "the newest point", exported(t, vault, last.Point), source)
}

// TestKilledAtAnyMomentItGoesOn ends the program with kill -9 at random moments,
// runs it again until it is done, changes the disk and does it all again. Every
// point that was ever announced must give back its disk. The environment variable
// RIPARO_KILLS sets how often, and RIPARO_TIME, as 15m, when it is no longer killed.
func TestKilledAtAnyMomentItGoesOn(t *testing.T) {
	const wantPoints = 4
	wantKills, until := proof.Times(t, "RIPARO_KILLS", 24), proof.Until(t)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	vault, source := filepath.Join(dir, "vault"), filepath.Join(dir, "a.raw")
	const size = 96 << 20
	sparse(t, source, size, map[int64][]byte{0: noise(rnd, 40<<20), 50 << 20: noise(rnd, 24<<20)})

	type announced struct {
		point replication.PointID
		copy  string
	}
	var points []announced
	kills, typical := 0, 400*time.Millisecond
	var changes []replication.Extent // since the newest point
	for {
		again := kills < wantKills && time.Now().Before(until)
		if !again && len(points) >= wantPoints {
			break
		}
		args := []string{"disk", "replicate", source, "--vault", vault, "--disk", "d", "--json"}
		if len(points) > 0 && rnd.IntN(2) == 0 {
			args = append(args, "--changed", lines(t, filepath.Join(dir, "changed"), changes))
		}
		limit := time.Hour
		if again {
			limit = time.Duration(rnd.Int64N(int64(typical) * 5 / 4))
		}
		began := time.Now()
		out, killed := runAndKill(t, limit, args...)
		if killed {
			kills++
			if rnd.IntN(3) == 0 { // the machine goes on between two tries
				changes = append(changes, overwrite(t, source, rnd.Int64N(size-100_000), noise(rnd, 1+rnd.IntN(100_000))))
			}
			continue
		}
		typical = (typical + time.Since(began)) / 2
		var r replicated
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		kept := filepath.Join(dir, string(r.Point))
		if err := exec.Command("cp", "--sparse=always", source, kept).Run(); err != nil {
			t.Fatal(err)
		}
		points = append(points, announced{r.Point, kept})
		changes = nil
		for range 1 + rnd.IntN(20) {
			b := noise(rnd, 1+rnd.IntN(3<<20))
			if rnd.IntN(3) == 0 {
				clear(b)
			}
			changes = append(changes, overwrite(t, source, rnd.Int64N(size-int64(len(b))), b))
		}
	}
	for _, p := range points {
		sameDisk(t, fmt.Sprintf("seed %d, point %s", seed, p.point), exported(t, vault, p.point), p.copy)
	}
	if got := must[map[string]any](t, "disk", "verify", "--vault", vault); got["verified"] != true {
		t.Errorf("verify after %d kills: %v", kills, got)
	}
	t.Logf("%d kills, %d points, all equal", kills, len(points))
}

// runAndKill runs the program and ends it with SIGKILL after limit, if it still runs.
func runAndKill(t *testing.T, limit time.Duration, args ...string) (stdout []byte, killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), asProgram+"=1")
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil && ctx.Err() == nil {
		t.Fatalf("riparo %q: %v\n%s", args, err, errs.String())
	}
	return out, err != nil
}

func TestInterruptedByAPersonItSaysSoAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	source := write(t, filepath.Join(dir, "a.raw"), noise(rand.New(rand.NewPCG(3, 3)), 1<<20))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	args := []string{"disk", "replicate", source, "--vault", filepath.Join(dir, "vault"), "--disk", "d"}
	status, out, errs := call(ctx, args...)
	if status != statusFailed || out != "" || !strings.Contains(errs, "run the same command again") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	r := must[replicated](t, args...)
	sameDisk(t, "after the interruption", exported(t, filepath.Join(dir, "vault"), r.Point), source)
}

// TestWhatAnInterruptedRunCutOffComesBack: no list of changes tells of it, because the disk
// is there again what it was at the point.
func TestWhatAnInterruptedRunCutOffComesBack(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(5, 5))
	content := noise(rnd, 2<<20)
	folder, source := filepath.Join(dir, "vault"), write(t, filepath.Join(dir, "a.raw"), content)
	args := []string{"disk", "replicate", source, "--vault", folder, "--disk", "d"}
	must[replicated](t, append(args, "--no-encryption")...)
	// The disk has half its size, and that is as far as the run comes.
	v, err := vault.Open(t.Context(), vfs.OS(), folder, vault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: 1 << 20}, 1); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	e := overwrite(t, source, 5000, noise(rnd, 1000))
	r := must[replicated](t, append(args, "--changed", lines(t, filepath.Join(dir, "changed"), []replication.Extent{e}))...)
	if r.Mode != modeDelta {
		t.Errorf("the mode is %s, want %s", r.Mode, modeDelta)
	}
	sameDisk(t, "the size came back", exported(t, folder, r.Point), source)
}

func TestABlockDeviceIsADiskToo(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(4, 4))
	file := sparse(t, filepath.Join(dir, "disk.img"), 24<<20, map[int64][]byte{0: noise(rnd, 1<<20), 20 << 20: noise(rnd, 100_000)})
	device := blockDevice(t, file)
	r := must[replicated](t, "disk", "replicate", device, "--vault", filepath.Join(dir, "vault"), "--disk", "d")
	if r.LogicalBytes != 24<<20 {
		t.Errorf("%d logical bytes, want %d", r.LogicalBytes, 24<<20)
	}
	sameDisk(t, "a block device", exported(t, filepath.Join(dir, "vault"), r.Point), file)
}
