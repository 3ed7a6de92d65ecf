package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"riparo/replication"
	"riparo/replication/image"
)

// asProgram in the environment makes the test binary be the program, so that a test
// can end it at any instruction.
const asProgram = "RIPARO_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	// Keys of tests do not go into the home of whoever runs them.
	dir, err := os.MkdirTemp("", "riparo-keys-")
	if err != nil {
		panic(err)
	}
	os.Setenv(envKey, filepath.Join(dir, "master.key"))
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// call runs the command line inside of the test.
func call(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

// must runs a verb that has to succeed and gives its JSON result.
func must[T any](t *testing.T, args ...string) T {
	t.Helper()
	status, out, errs := call(t.Context(), append(args, "--json")...)
	var v T
	if status != 0 {
		t.Fatalf("riparo %q: status %d\n%s%s", args, status, out, errs)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("riparo %q: %v in %q", args, err, out)
	}
	return v
}

// listing is what `disk points` prints.
type listing struct {
	Points []struct {
		Disk string              `json:"disk"`
		ID   replication.PointID `json:"id"`
	} `json:"points"`
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// sparse makes a file of size bytes that is empty but for the data at some offsets.
func sparse(t *testing.T, path string, size int64, data map[int64][]byte) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at, b := range data {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// sameDisk fails the test unless file a shows the bytes of b, and nothing but
// zeroes after them. It reads only what one of them does not call a hole.
func sameDisk(t *testing.T, what, a, b string) {
	t.Helper()
	fa, fb := open(t, a), open(t, b)
	if fa.Size() < fb.Size() {
		t.Fatalf("%s: %d bytes, want %d", what, fa.Size(), fb.Size())
	}
	var data []replication.Extent
	for _, f := range []*image.File{fa, fb} {
		for r, err := range f.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if !r.Zero {
				data = append(data, r.Extent)
			}
		}
	}
	const step = 1 << 20
	ba, bb := make([]byte, step), make([]byte, step)
	for _, e := range replication.Union(data) {
		for at := e.Offset; at < e.End(); at += step {
			n := min(step, e.End()-at)
			clear(bb[:n])
			if err := replication.ReadFull(fa, ba[:n], at); err != nil {
				t.Fatal(err)
			}
			if inside := min(n, fb.Size()-at); inside > 0 {
				if err := replication.ReadFull(fb, bb[:inside], at); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(ba[:n], bb[:n]) {
				for i := range n {
					if ba[i] != bb[i] {
						t.Fatalf("%s: byte %d is %#x, want %#x", what, at+i, ba[i], bb[i])
					}
				}
			}
		}
	}
}

func open(t *testing.T, path string) *image.File {
	t.Helper()
	f, err := image.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// exported writes a point of disk "d" to a file of its own.
func exported(t *testing.T, vault string, point replication.PointID) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "exported.raw")
	must[map[string]any](t, "disk", "export", "--vault", vault, "--disk", "d", "--point", string(point), path)
	return path
}
