//go:build unix

package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"riparo/replication"
	"riparo/replication/keyring"
	"riparo/replication/vault"
	"riparo/replication/vfs"
)

// scene is a vault with two points of disk "d", and the disk.
type scene struct {
	dir, vault, source string
	points             []replication.PointID
}

func newScene(t *testing.T) scene {
	t.Helper()
	dir := t.TempDir()
	s := scene{dir: dir, vault: filepath.Join(dir, "vault"), source: filepath.Join(dir, "a.raw")}
	rnd := rand.New(rand.NewPCG(2, 2))
	write(t, s.source, noise(rnd, 1<<20))
	for range 2 {
		overwrite(t, s.source, rnd.Int64N(900_000), noise(rnd, 50_000))
		s.points = append(s.points, must[replicated](t, s.replicate()...).Point)
	}
	return s
}

func (s scene) file(name string) string { return filepath.Join(s.dir, name) }

func (s scene) replicate(more ...string) []string {
	return append([]string{"disk", "replicate", s.source, "--vault", s.vault, "--disk", "d"}, more...)
}

func (s scene) export(more ...string) []string {
	return append([]string{"disk", "export", "--vault", s.vault, "--disk", "d"}, more...)
}

// TestWrongInputIsExplained shows what a person reads: what happened, what that
// means, what to do; and that every point is still there afterwards.
func TestWrongInputIsExplained(t *testing.T) {
	tests := []struct {
		name string
		// args prepares the scene and gives the command line. It may skip.
		args   func(t *testing.T, s scene) []string
		cause  string // patterns of what is printed
		remedy string
		code   string
	}{
		{"the source is missing", func(t *testing.T, s scene) []string {
			return []string{"disk", "replicate", s.file("nosuch"), "--vault", s.vault, "--disk", "d"}
		}, "no file or device .*/nosuch", "check the name", "image.missing"},
		{"the source is a directory", func(t *testing.T, s scene) []string {
			return []string{"disk", "replicate", s.dir, "--vault", s.vault, "--disk", "d"}
		}, "is a directory", ".", "image.directory"},
		{"the source is no disk", func(t *testing.T, s scene) []string {
			return []string{"disk", "replicate", "/dev/null", "--vault", s.vault, "--disk", "d"}
		}, "/dev/null", ".", "image.special"},
		{"the source may not be read", func(t *testing.T, s scene) []string {
			notAsRoot(t)
			return append(s.replicate(), chmod(t, s.source, 0))
		}, "permission denied", "run as a user", "image.unreadable"},
		{"the source is a mounted device", func(t *testing.T, s scene) []string {
			return []string{"disk", "replicate", mountedDevice(t), "--vault", s.vault, "--disk", "d"}
		}, "is busy: it is mounted", "unmount it", "image.busy"},
		{"the source shrinks while it is read", func(t *testing.T, s scene) []string {
			return s.replicate("--changed", feed(t, `{"offset":900000,"length":100000}`, func() { os.Truncate(s.source, 950_000) }))
		}, "a.raw", ".", "image.changed"},
		{"the source is written while it is read", func(t *testing.T, s scene) []string {
			return s.replicate("--changed", feed(t, `{"offset":0,"length":4096}`, func() { overwrite(t, s.source, 500_000, []byte("late")) }))
		}, "a.raw", ".", "image.changed"},
		{"the list of changes is missing", func(t *testing.T, s scene) []string {
			return s.replicate("--changed", s.file("nosuch"))
		}, "list of changed extents cannot be read", "leave it out", "changed.unreadable"},
		{"the list of changes is no list", func(t *testing.T, s scene) []string {
			return s.replicate("--changed", write(t, s.file("changed"), []byte("{\"offset\":0,\"length\":1}\nboo\n")))
		}, "line 2", `write one \{"offset":N,"length":N\} on each line`, "changed.invalid"},
		{"the list of changes goes past the end", func(t *testing.T, s scene) []string {
			return s.replicate("--changed", write(t, s.file("changed"), []byte(`{"offset":1048000,"length":1000}`)))
		}, "line 1.*outside the disk", ".", "changed.invalid"},

		{"the vault is missing", func(t *testing.T, s scene) []string {
			return []string{"disk", "points", "--vault", s.file("nosuch")}
		}, "no vault in .*/nosuch", "check the path", "vault.missing"},
		{"the vault is some other folder", func(t *testing.T, s scene) []string {
			return []string{"disk", "points", "--vault", t.TempDir()}
		}, "no vault in", "check the path", "vault.missing"},
		{"the vault is in use", func(t *testing.T, s scene) []string {
			v, err := vault.Open(t.Context(), vfs.OS(), s.vault, vault.Options{Keys: testKeys(t)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { v.Close() })
			return s.replicate()
		}, fmt.Sprintf("in use by process %d", os.Getpid()), "end it first", "vault.locked"},
		{"the vault is of a newer version", func(t *testing.T, s scene) []string {
			patch(t, filepath.Join(s.vault, "vault"), func(b []byte) {
				binary.LittleEndian.PutUint32(b[8:], 99)
				binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], crc32.MakeTable(crc32.Castagnoli)))
			})
			return s.replicate()
		}, "format version 99", "use the version of Riparo that wrote it", "vault.version"},
		{"the vault may not be written", func(t *testing.T, s scene) []string {
			readOnly(t, s.vault)
			return s.replicate()
		}, "read-only|permission denied", ".", "vault.*"},
		{"the vault has no space left", func(t *testing.T, s scene) []string {
			big := write(t, s.file("big.raw"), noise(rand.New(rand.NewPCG(5, 5)), 24<<20))
			return []string{"disk", "replicate", big, "--vault", filepath.Join(small(t), "vault"), "--disk", "d"}
		}, "no space left", "run the same command again", "vault.full"},
		{"the point is damaged", func(t *testing.T, s scene) []string {
			damageSegments(t, s.vault)
			return s.export(s.file("out.raw"))
		}, "damaged|not what was written", ".", "vault.damaged"},

		{"the disk is unknown", func(t *testing.T, s scene) []string {
			return []string{"disk", "export", "--vault", s.vault, "--disk", "nosuch", s.file("out.raw")}
		}, "has no disk nosuch", "it holds d", "disk.unknown"},
		{"the disk to prune is unknown", func(t *testing.T, s scene) []string {
			return []string{"disk", "prune", "--vault", s.vault, "--disk", "nosuch", "--keep", "1h:all"}
		}, "has no disk nosuch", "it holds d", "disk.unknown"},
		{"the disk to verify is unknown", func(t *testing.T, s scene) []string {
			return []string{"disk", "verify", "--vault", s.vault, "--disk", "nosuch"}
		}, "has no disk nosuch", "it holds d", "disk.unknown"},
		{"the point is unknown", func(t *testing.T, s scene) []string {
			return s.export("--point", "20200101T000000.000Z-00000000", s.file("out.raw"))
		}, "has no recovery point 2020", "the newest is 2", "point.unknown"},
		{"the file to export to exists", func(t *testing.T, s scene) []string {
			return s.export(s.source)
		}, "there is a file .* already", "another name", "image.exists"},
		{"the folder to export to is missing", func(t *testing.T, s scene) []string {
			return s.export(s.file("nosuch/out.raw"))
		}, "nosuch/out.raw", ".", "image.unwritable"},
		{"there is no room to export to", func(t *testing.T, s scene) []string {
			big := write(t, s.file("big.raw"), noise(rand.New(rand.NewPCG(5, 5)), 24<<20))
			must[replicated](t, "disk", "replicate", big, "--vault", s.vault, "--disk", "big")
			return []string{"disk", "export", "--vault", s.vault, "--disk", "big", filepath.Join(small(t), "out.raw")}
		}, "no room left", "make room", "image.full"},
		{"the address to serve at is taken", func(t *testing.T, s scene) []string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			return []string{"disk", "serve", "--vault", s.vault, "--disk", "d", "--listen", l.Addr().String()}
		}, "cannot listen on 127.0.0.1", "another address", "serve.address"},
		{"the source to repair from is missing", func(t *testing.T, s scene) []string {
			return []string{"disk", "verify", "--vault", s.vault, "--disk", "d", "--repair-from", s.file("nosuch")}
		}, "no file or device", "check the name", "image.missing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			args := append(test.args(t, s), "--json")
			status, out, errs := call(t.Context(), args...)
			t.Logf("riparo %s\n%s", strings.Join(args, " "), errs)
			if status != statusFailed {
				t.Errorf("status %d, want %d", status, statusFailed)
			}
			said := regexp.MustCompile(`(?s)^.*riparo: (.*)\n  effect: (.*)\n  remedy: (.*)\n$`).FindStringSubmatch(errs)
			if said == nil {
				t.Fatalf("want cause, effect and remedy, got %q", errs)
			}
			for i, pattern := range []string{test.cause, ".", test.remedy} {
				if !regexp.MustCompile(pattern).MatchString(said[i+1]) {
					t.Errorf("got %q, want %q", said[i+1], pattern)
				}
			}
			var document struct{ Error map[string]string }
			if err := json.Unmarshal([]byte(out), &document); err != nil || !regexp.MustCompile(test.code).MatchString(document.Error["code"]) {
				t.Errorf("stdout %q, want one document with the code %s", out, test.code)
			}
		})
	}
}

func TestAfterAFailureEveryPointIsStillThere(t *testing.T) {
	s := newScene(t)
	keep := write(t, s.file("keep"), contentOf(t, s.source))
	for _, args := range [][]string{
		s.replicate("--changed", feed(t, `{"offset":0,"length":900000}`, func() { os.Truncate(s.source, 1000) })),
		s.replicate("--changed", s.file("nosuch")),
	} {
		if status, _, errs := call(t.Context(), args...); status != statusFailed {
			t.Fatalf("status %d\n%s", status, errs)
		}
	}
	got := must[listing](t, "disk", "points", "--vault", s.vault, "--disk", "d")
	if len(got.Points) != 2 {
		t.Fatalf("%d points, want the 2 that were made", len(got.Points))
	}
	sameDisk(t, "the newest point", exported(t, s.vault, s.points[1]), keep)
}

func TestAFullVaultGoesOnWhenThereIsRoomAgain(t *testing.T) {
	dir := small(t)
	source := write(t, filepath.Join(t.TempDir(), "a.raw"), noise(rand.New(rand.NewPCG(6, 6)), 24<<20))
	args := []string{"disk", "replicate", source, "--vault", filepath.Join(dir, "vault"), "--disk", "d"}
	for range 3 {
		if status, _, errs := call(t.Context(), args...); status != statusFailed || !strings.Contains(errs, "no space left") {
			t.Fatalf("status %d\n%s", status, errs)
		}
	}
	command(t, "mount", "-o", "remount,size=64m", dir)
	r := must[replicated](t, args...)
	if r.Mode != modeInitial || !r.Resumed || r.ChangedBytes >= 24<<20 {
		t.Errorf("got %+v: want an initial replication that goes on with what arrived", r)
	}
	sameDisk(t, "after there was room", exported(t, filepath.Join(dir, "vault"), r.Point), source)
}

func contentOf(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamageIsListedAndHealedFromTheSource(t *testing.T) {
	s := newScene(t)
	damageSegments(t, s.vault)
	status, out, _ := call(t.Context(), "disk", "verify", "--vault", s.vault, "--json")
	var report struct {
		Verified       bool
		Damage, Healed []damage
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if status != statusFailed || report.Verified || len(report.Damage) == 0 {
		t.Fatalf("status %d, %+v: want 1 and a list of damage", status, report)
	}
	named := false
	for _, d := range report.Damage {
		named = named || len(d.Points) > 0
	}
	if !named {
		t.Errorf("no damaged point is named: %+v", report.Damage)
	}
	if status, out, _ := call(t.Context(), "disk", "verify", "--vault", s.vault); status != statusFailed || !strings.Contains(out, "damaged: disk d") {
		t.Errorf("for people: status %d, %q", status, out)
	}
	// The head is whole again after a repair and one more replication; what only
	// older points needed may be lost, and is said to be.
	_, out, errs := call(t.Context(), "disk", "verify", "--vault", s.vault, "--disk", "d", "--repair-from", s.source, "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Healed) == 0 {
		t.Fatalf("repair: %v, %q, %q", err, out, errs)
	}
	r := must[replicated](t, s.replicate()...)
	sameDisk(t, "the point after the repair", exported(t, s.vault, r.Point), s.source)
}

// damageSegments turns a bit in the middle of every segment of the vault.
func damageSegments(t *testing.T, vault string) {
	t.Helper()
	damaged := 0
	if err := filepath.WalkDir(vault, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".segment" {
			return err
		}
		patch(t, path, func(b []byte) {
			if len(b) > 10_000 {
				b[len(b)/2] ^= 4
				damaged++
			}
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if damaged == 0 {
		t.Fatal("there is no segment to damage: has their name changed?")
	}
}

func patch(t *testing.T, path string, change func([]byte)) {
	t.Helper()
	b := contentOf(t, path)
	change(b)
	write(t, path, b)
}

// testKeys are the master keys that the tests of this package share.
func testKeys(t *testing.T) *keyring.Ring {
	t.Helper()
	r, err := keyring.Load(os.Getenv(envKey))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
