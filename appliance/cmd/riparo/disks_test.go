package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"riparo/appliance/demo"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// TestADiskThatCannotBeReadKeepsNoOtherFromBeingListed, nor from giving points back; the
// verbs say which one it is, and end with 1.
func TestADiskThatCannotBeReadKeepsNoOtherFromBeingListed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(envKey, filepath.Join(dir, "master.key"))
	vault := filepath.Join(dir, "vault")
	source := sparse(t, filepath.Join(dir, "disk.raw"), 1<<20, map[int64][]byte{5000: []byte("what is there")})
	for _, disk := range []string{"a", "b", "c"} {
		must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", disk)
	}
	must[replicated](t, "disk", "replicate", source, "--vault", vault, "--disk", "c")
	keys, err := filepath.Glob(filepath.Join(vault, "disks", "disk-b.d", "keys*"))
	if err != nil || len(keys) == 0 {
		t.Fatalf("the keys of disk b: %v, %v", keys, err)
	}
	for _, file := range keys {
		if err := os.WriteFile(file, []byte("spoilt"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, out, errs := call(t.Context(), "disk", "points", "--vault", vault)
	if status != 1 || strings.Count(out, "\n a ") != 1 || strings.Count(out, "\n c ") != 2 || !strings.Contains(out, "disk b cannot be read: ") {
		t.Errorf("points: status %d\n%s%s", status, out, errs)
	}
	status, out, errs = call(t.Context(), "disk", "prune", "--vault", vault, "--keep", "1h:all")
	if status != 1 || !strings.Contains(out, "disk a: 0 ") || !strings.Contains(out, "2 kept") || !strings.Contains(out, "disk b cannot be read") {
		t.Errorf("prune: status %d\n%s%s", status, out, errs)
	}
	if status, _, _ := call(t.Context(), "disk", "points", "--vault", vault, "--disk", "b"); status != 1 {
		t.Errorf("points of the sick disk: status %d, want 1", status)
	}
}

// TestAFileThatHoldsADiskIsNotTakenForTheDisk: it would replicate and verify well, and
// boot nowhere.
func TestAFileThatHoldsADiskIsNotTakenForTheDisk(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(envKey, filepath.Join(dir, "master.key"))
	vault := filepath.Join(dir, "vault")
	source := sparse(t, filepath.Join(dir, "vm.qcow2"), 1<<20, map[int64][]byte{0: []byte("QFI\xfb")})
	replicate := []string{"disk", "replicate", source, "--vault", vault, "--disk", "d"}
	refusedWith(t, "image.container", replicate...)
	must[replicated](t, append(replicate, "--raw")...)
	repair := []string{"disk", "verify", "--vault", vault, "--disk", "d", "--repair-from", source}
	refusedWith(t, "image.container", repair...)
	must[map[string]any](t, append(repair, "--raw")...)
}

func TestTheDemonstrationLeavesAnAppliancesFolderAlone(t *testing.T) {
	data := t.TempDir()
	state := write(t, filepath.Join(data, "state.db"), []byte("somebody's"))
	refusedWith(t, "demo.data", "demo", "--once", "--data", data)
	if kept, err := os.ReadFile(state); err != nil || string(kept) != "somebody's" {
		t.Errorf("the state is %q, %v", kept, err)
	}
}

func TestADemonstrationThatIsInterruptedDoesNotSucceed(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	o := demo.Options{Data: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0", Machines: 1, DiskSize: 64 << 20, Churn: 512 << 10, Seed: 7, Tell: func(string, ...any) { cancel() }}
	if err := os.Mkdir(o.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := demo.Run(ctx, o, demo.Stage{Told: func(demo.Result) error { return nil }}); err == nil {
		t.Error("an interrupted story ends without an error")
	}
}

func TestACanceledChangeOfThePointDoesNotSayThatTheReplicaIsBack(t *testing.T) {
	for kind, want := range map[lifecycle.Verb]string{lifecycle.ChangePoint: "does not come back", lifecycle.Failback: "taken back"} {
		if err := endingOf(store.Job{ID: "j", Kind: string(kind), State: store.Canceled}); err == nil || !strings.Contains(replication.AsProblem(err).Effect, want) {
			t.Errorf("%s: %v, want %q in the effect", kind, err, want)
		}
	}
}
