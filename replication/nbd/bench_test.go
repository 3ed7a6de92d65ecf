package nbd

import (
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// bigFile is 512 MiB that do not shrink, in the page cache.
func bigFile(b *testing.B) (string, int64) {
	const size = 512 << 20
	path := filepath.Join(b.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.Reader, size); err != nil {
		b.Fatal(err)
	}
	return path, size
}

// BenchmarkServer is a sequential read of our server by nbdcopy, beside the same
// of nbdkit and qemu-nbd.
func BenchmarkServer(b *testing.B) {
	need(b, "nbdcopy", "nbdkit", "qemu-nbd")
	path, size := bigFile(b)
	_, socket := serve(b, ServerOptions{}, map[string]Export{"": {Source: openFile(b, path)}})
	for _, c := range []struct {
		name string
		args []string
	}{
		{"riparo", []string{"nbdcopy", "--no-extents", URI("unix", socket, ""), "null:"}},
		{"nbdkit", []string{"nbdcopy", "--no-extents", "--", "[", "nbdkit", "-r", "file", path, "]", "null:"}},
		{"qemu-nbd", []string{"nbdcopy", "--no-extents", "--", "[", "qemu-nbd", "-r", "-e", "16", "-f", "raw", path, "]", "null:"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if out, err := exec.Command(c.args[0], c.args[1:]...).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}

// BenchmarkClient is a sequential read by our client, from qemu-nbd's equal in Go.
func BenchmarkClient(b *testing.B) {
	path, size := bigFile(b)
	_, socket := serve(b, ServerOptions{}, map[string]Export{"": {Source: openFile(b, path)}})
	for _, connections := range []int{1, 2} {
		c := dial(b, URI("unix", socket, ""), Options{Connections: connections})
		b.Run([]string{"", "one", "two"}[connections], func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				var next atomic.Int64
				var readers sync.WaitGroup
				for range 4 {
					readers.Go(func() {
						p := make([]byte, 1<<20)
						for at := next.Add(1<<20) - 1<<20; at < size; at = next.Add(1<<20) - 1<<20 {
							if _, err := c.ReadAt(p, at); err != nil && err != io.EOF {
								b.Error(err)
								return
							}
						}
					})
				}
				readers.Wait()
			}
		})
	}
}
