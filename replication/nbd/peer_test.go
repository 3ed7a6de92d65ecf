package nbd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/replication"
)

// These tests let foreign programs judge: nbdinfo, nbdcopy, qemu-img and qemu-io as
// clients of our server; qemu-nbd and nbdkit as servers of our client.

// peerSizes are those that implementations stumble over.
var peerSizes = []int64{0, 1, 511, 512, 513, 1<<20 + 1, 200<<20 + 1536, 64 << 30}

// need skips a test for want of a program; where CI=true it fails, because there
// everything is installed.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("the program %s is missing", p)
		}
		t.Skipf("the program %s is missing", p)
	}
}

// run runs a program for at most a minute and gives what it printed.
func run(t testing.TB, program string, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var complaints bytes.Buffer
	c := exec.CommandContext(ctx, program, arguments...)
	c.Stderr = &complaints
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s%s", program, strings.Join(arguments, " "), err, out, complaints.Bytes())
	}
	return string(out)
}

// fileDisk is a file as a source, one region of data.
type fileDisk struct {
	*os.File
	size int64
}

func openFile(t testing.TB, path string) fileDisk {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return fileDisk{f, info.Size()}
}

func (f fileDisk) Size() int64 { return f.size }

func (f fileDisk) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		if f.size > 0 {
			yield(replication.Region{Extent: replication.Extent{Length: f.size}}, nil)
		}
	}
}

// save writes a disk to a sparse file.
func save(t testing.TB, d *memoryDisk) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(d.size); err != nil {
		t.Fatal(err)
	}
	for i, c := range d.chunks {
		if _, err := f.WriteAt(c[:min(memoryChunk, d.size-i*memoryChunk)], i*memoryChunk); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// holds checks that a file has the content of a disk, and at most zeroes after it.
func holds(t testing.TB, path string, d *memoryDisk) {
	t.Helper()
	f := openFile(t, path)
	if rounded := (d.size + 511) / 512 * 512; f.size != d.size && f.size != rounded {
		t.Fatalf("the file has %d bytes, want %d", f.size, d.size)
	}
	rest, err := io.ReadAll(io.NewSectionReader(f, d.size, 1<<20))
	if err != nil || len(bytes.Trim(rest, "\x00")) > 0 {
		t.Fatalf("after the disk come %d bytes that are not zero, %v", len(rest), err)
	}
	f.size = d.size
	sameContent(t, f, d)
}

func TestForeignClientsReadOurServer(t *testing.T) {
	need(t, "nbdinfo", "nbdcopy", "qemu-img", "qemu-io")
	for _, size := range peerSizes {
		disk := newMemoryDisk(size).scatter(uint64(size), 30)
		raw := save(t, disk)
		server, socket := serve(t, ServerOptions{}, map[string]Export{"a disk/1": {Source: disk, Description: "Web server, disk 1"}})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, server, l)
		for _, uri := range []string{URI("unix", socket, "a disk/1"), URI("tcp", l.Addr().String(), "a disk/1")} {
			name := fmt.Sprintf("%d/%s", size, uri[:8])
			t.Run(name+"/nbdinfo", func(t *testing.T) { judgedByNbdinfo(t, uri, disk) })
			t.Run(name+"/nbdcopy", func(t *testing.T) {
				for _, how := range []string{"--connections=4", "--no-extents"} {
					if how == "--no-extents" && size > 1<<30 {
						continue // It would send 64 GiB of zeroes to see the same.
					}
					path := filepath.Join(t.TempDir(), "copy")
					run(t, "nbdcopy", how, uri, path)
					holds(t, path, disk)
				}
			})
			t.Run(name+"/qemu-img", func(t *testing.T) {
				run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri)
				path := filepath.Join(t.TempDir(), "copy")
				run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", uri, path)
				holds(t, path, disk)
				path += ".qcow2"
				run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, path)
				run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, path)
				judgedByMap(t, uri, disk)
			})
			t.Run(name+"/qemu-io", func(t *testing.T) {
				if size < 1<<20 {
					return
				}
				run(t, "qemu-io", "-r", "-f", "raw", "-c", "read 0 4096", "-c", fmt.Sprintf("read -P 0 %d 0", size/2), "-c", "flush", uri)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if out, err := exec.CommandContext(ctx, "qemu-io", "-f", "raw", "-c", "write 0 512", uri).CombinedOutput(); err == nil {
					t.Errorf("a write to a read-only export was accepted: %s", out)
				}
			})
		}
	}
}

func judgedByNbdinfo(t *testing.T, uri string, disk *memoryDisk) {
	var about struct {
		TLS        bool `json:"TLS"`
		Structured bool `json:"structured"`
		Exports    []struct {
			Size        int64    `json:"export-size"`
			Description string   `json:"description"`
			Contexts    []string `json:"contexts"`
			ReadOnly    bool     `json:"is_read_only"`
			MultiConn   bool     `json:"can_multi_conn"`
			DF          bool     `json:"can_df"`
			Minimum     int      `json:"block_size_minimum"`
			Maximum     int      `json:"block_size_maximum"`
		} `json:"exports"`
	}
	if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--json", uri)), &about); err != nil {
		t.Fatal(err)
	}
	e := about.Exports[0]
	if e.Size != disk.size || !e.ReadOnly || !e.MultiConn || !e.DF || e.Minimum != 1 || e.Maximum != 32<<20 || !about.Structured || e.Description != "Web server, disk 1" || len(e.Contexts) != 1 || e.Contexts[0] != AllocationContext {
		t.Errorf("nbdinfo sees %+v, want a read-only export of %d bytes with base:allocation", about, disk.size)
	}
	var pieces []struct {
		Offset, Length int64
		Type           uint32
	}
	if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--json", "--map", uri)), &pieces); err != nil {
		t.Fatal(err)
	}
	var got []replication.Region
	for _, p := range pieces {
		got = append(got, replication.Region{Extent: replication.Extent{Offset: p.Offset, Length: p.Length}, Zero: p.Type&StateZero != 0})
	}
	sameRegions(t, got, joined(t, disk))
}

// joined are the regions of a source, neighbors of one kind as one.
func joined(t testing.TB, source replication.Source) []replication.Region {
	t.Helper()
	var list []replication.Region
	join := joiner{yield: func(r replication.Region, _ error) bool { list = append(list, r); return true }}
	for r, err := range source.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		join.add(r)
	}
	join.end()
	return list
}

func sameRegions(t testing.TB, got, want []replication.Region) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("region %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d regions, want %d", len(got), len(want))
	}
}

// judgedByMap compares what qemu-img calls zero with the disk. QEMU works in
// sectors, so a border inside of a sector may lie at either end of it.
func judgedByMap(t *testing.T, uri string, disk *memoryDisk) {
	var pieces []struct {
		Start, Length int64
		Zero          bool
	}
	if err := json.Unmarshal([]byte(run(t, "qemu-img", "map", "--output=json", "-f", "raw", uri)), &pieces); err != nil {
		t.Fatal(err)
	}
	var zero int64
	for _, p := range pieces {
		if p.Zero {
			zero += p.Length
		}
	}
	var want int64
	for _, r := range joined(t, disk) {
		if r.Zero {
			want += r.Length
		}
	}
	if slack := int64(len(pieces)+2) * 512; zero < want-slack || zero > want+slack {
		t.Errorf("qemu-img sees %d bytes of zero, want %d", zero, want)
	}
}

func TestForeignClientsWriteToAnOverlay(t *testing.T) {
	need(t, "nbdcopy", "qemu-img", "qemu-io")
	const size = 8<<20 + 512
	base := newMemoryDisk(size).scatter(11, 30)
	path := filepath.Join(t.TempDir(), "overlay")
	o, err := OpenOverlay(path, base, "p")
	if err != nil {
		t.Fatal(err)
	}
	_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: o, Writer: o}})
	uri := URI("unix", socket, "d")
	run(t, "qemu-io", "-f", "raw",
		"-c", "write -P 0xab 1000k 300k", "-c", "write -z 2M 1M", "-c", "discard 4M 64k", "-c", "write -f -P 0xcd 7000 1000", "-c", "flush",
		"-c", "read -P 0xab 1000k 300k", "-c", "read -P 0 2M 1M", "-c", "read -P 0xcd 7000 1000", uri)
	want := newMemoryDisk(size).scatter(11, 30)
	want.WriteAt(bytes.Repeat([]byte{0xab}, 300<<10), 1000<<10)
	want.WriteAt(make([]byte, 1<<20), 2<<20)
	want.WriteAt(make([]byte, 64<<10), 4<<20)
	want.WriteAt(bytes.Repeat([]byte{0xcd}, 1000), 7000)
	sameContent(t, o, want)
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", save(t, want), uri)

	// A whole disk, written over what was there.
	other := newMemoryDisk(size).scatter(12, 60)
	run(t, "nbdcopy", save(t, other), uri)
	sameContent(t, o, other)
	run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", save(t, want), uri)
	sameContent(t, o, want)
	sameContent(t, base, newMemoryDisk(size).scatter(11, 30))

	// What was flushed is there in the next life.
	run(t, "qemu-io", "-f", "raw", "-c", "write -P 0x11 0 512", "-c", "flush", uri)
	want.WriteAt(bytes.Repeat([]byte{0x11}, 512), 0)
	o.Close()
	if o, err = OpenOverlay(path, base, "p"); err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	sameContent(t, o, want)
}

// TestAQcow2OverlayStandsOnOurView is how an instant failover begins: a qcow2 image
// of QEMU with our view below it.
func TestAQcow2OverlayStandsOnOurView(t *testing.T) {
	need(t, "qemu-img", "qemu-io")
	disk := newMemoryDisk(64<<20).scatter(13, 30)
	_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk}})
	overlay := filepath.Join(t.TempDir(), "o.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", URI("unix", socket, "d"), overlay)
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", "-c", "flush", overlay)
	want := newMemoryDisk(64<<20).scatter(13, 30)
	want.WriteAt(bytes.Repeat([]byte{7}, 3<<20), 1<<20)
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", save(t, want), overlay)
	// Made independent of us, as block-stream does it.
	run(t, "qemu-img", "rebase", "-f", "qcow2", "-b", "", overlay)
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", save(t, want), overlay)
	sameContent(t, disk, newMemoryDisk(64<<20).scatter(13, 30))
}

func TestForeignClientsSeeOurDirtyBitmaps(t *testing.T) {
	need(t, "nbdinfo", "qemu-img")
	disk := newMemoryDisk(1<<20+1).scatter(3, 5)
	dirty := []replication.Extent{{Offset: 0, Length: 512}, {Offset: 65536, Length: 131072}, {Offset: 1 << 20, Length: 1}}
	_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk, Dirty: map[string][]replication.Extent{"since-1": dirty, "none": nil}}})
	uri := URI("unix", socket, "d")
	var pieces []struct {
		Offset, Length int64
		Type           uint32
	}
	if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--json", "--map="+DirtyBitmapPrefix+"since-1", uri)), &pieces); err != nil {
		t.Fatal(err)
	}
	var got []replication.Extent
	for _, p := range pieces {
		if p.Type == StateDirty {
			got = append(got, replication.Extent{Offset: p.Offset, Length: p.Length})
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(dirty) {
		t.Errorf("nbdinfo sees %v dirty, want %v", got, dirty)
	}
	// QEMU shows the bitmap that it is told of as the absence of data.
	text := run(t, "qemu-img", "map", "--output=json", "--image-opts", fmt.Sprintf("driver=nbd,server.type=unix,server.path=%s,export=d,x-dirty-bitmap=%ssince-1", socket, DirtyBitmapPrefix))
	if !strings.Contains(text, `"start": 65536, "length": 131072`) {
		t.Errorf("qemu-img maps the bitmap as %s", text)
	}
	c := dial(t, uri, Options{Contexts: []string{AllocationContext, DirtyBitmapPrefix + "none", DirtyBitmapPrefix + "since-1"}})
	for bitmap, want := range map[string]int64{"since-1": replication.TotalLength(dirty), "none": 0} {
		delta, err := c.Delta(bitmap)
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		for r, err := range delta.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			n += r.Length
		}
		if n != want {
			t.Errorf("our client sees %d dirty bytes in %q, want %d", n, bitmap, want)
		}
	}
}

// waitFor dials a server that has just been started, until it answers.
func waitFor(t *testing.T, uri string, o Options) *Client {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := Dial(t.Context(), uri, o)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		if replication.AsProblem(err).Code != "nbd.unreachable" || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // A foreign program has no other way to say that it is there.
	}
}

// start runs a server until the test ends.
func start(t *testing.T, program string, arguments ...string) {
	t.Helper()
	var complaints bytes.Buffer
	c := exec.Command(program, arguments...)
	c.Stderr = &complaints
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(os.Interrupt)
		killer := time.AfterFunc(10*time.Second, func() { c.Process.Kill() })
		c.Wait()
		killer.Stop()
		if t.Failed() {
			t.Logf("%s %s: %s", program, strings.Join(arguments, " "), complaints.Bytes())
		}
	})
}

func TestOurClientReadsForeignServers(t *testing.T) {
	need(t, "qemu-nbd", "nbdkit")
	for _, size := range peerSizes {
		disk := newMemoryDisk(size).scatter(uint64(size)+1, 30)
		raw := save(t, disk)
		for name, server := range map[string]func(t *testing.T, socket string){
			"qemu-nbd": func(t *testing.T, socket string) {
				start(t, "qemu-nbd", "-t", "-r", "-e", "8", "-f", "raw", "-x", "d", "-k", socket, raw)
			},
			"nbdkit": func(t *testing.T, socket string) { start(t, "nbdkit", "-f", "-r", "-U", socket, "file", raw) },
			"nbdkit, simple replies": func(t *testing.T, socket string) {
				start(t, "nbdkit", "-f", "-r", "--no-sr", "-U", socket, "file", raw)
			},
			"nbdkit, blocks of 512": func(t *testing.T, socket string) {
				start(t, "nbdkit", "-f", "-r", "-U", socket, "--filter=blocksize-policy", "--filter=truncate", "file", raw, "blocksize-minimum=512", "blocksize-maximum=1M", "blocksize-error-policy=error", "round-up=512")
			},
			"nbdkit, old": func(t *testing.T, socket string) {
				start(t, "nbdkit", "-f", "-r", "--mask-handshake=1", "-U", socket, "file", raw)
			},
		} {
			t.Run(fmt.Sprintf("%d/%s", size, name), func(t *testing.T) {
				socket := filepath.Join(t.TempDir(), "s")
				server(t, socket)
				o := Options{Contexts: []string{AllocationContext}, Connections: 3}
				if name == "nbdkit, simple replies" {
					o.Contexts = nil
				}
				c := waitFor(t, URI("unix", socket, "d"), o)
				if rounded := (size + 511) / 512 * 512; c.Size() != size && c.Size() != rounded {
					t.Fatalf("size: got %d, want %d", c.Size(), size)
				}
				sameContent(t, cut{c, size}, disk)
				var last, data int64
				for r, err := range c.Regions(t.Context()) {
					if err != nil || r.Offset != last {
						t.Fatalf("region %v after %d: %v", r, last, err)
					}
					if last = r.End(); !r.Zero {
						data += r.Length
					}
				}
				if last != c.Size() {
					t.Errorf("the regions end at %d, want %d", last, c.Size())
				}
				if data > 20<<20 && o.Contexts != nil {
					t.Errorf("%d bytes are called data: the disk is sparse", data)
				}
			})
		}
	}
}

// cut is a source without what a server adds to fill the last sector.
type cut struct {
	replication.Source
	size int64
}

func (c cut) Size() int64 { return c.size }

func TestOurClientWritesToForeignServers(t *testing.T) {
	need(t, "qemu-nbd", "nbdkit", "qemu-img")
	const size = 4 << 20
	for name, server := range map[string]func(t *testing.T, socket, path string){
		"qemu-nbd, raw": func(t *testing.T, socket, path string) { start(t, "qemu-nbd", "-t", "-f", "raw", "-k", socket, path) },
		"qemu-nbd, qcow2": func(t *testing.T, socket, path string) {
			start(t, "qemu-nbd", "-t", "-f", "qcow2", "--discard=unmap", "-k", socket, path)
		},
		"nbdkit": func(t *testing.T, socket, path string) { start(t, "nbdkit", "-f", "-U", socket, "file", path) },
		"nbdkit, no zero": func(t *testing.T, socket, path string) {
			start(t, "nbdkit", "-f", "-U", socket, "--filter=nozero", "file", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, socket := filepath.Join(dir, "disk"), filepath.Join(dir, "s")
			format := "raw"
			if strings.HasSuffix(name, "qcow2") {
				format = "qcow2"
			}
			run(t, "qemu-img", "create", "-q", "-f", format, path, fmt.Sprint(size))
			server(t, socket, path)
			c := waitFor(t, URI("unix", socket, ""), Options{Contexts: []string{AllocationContext}})
			want := newMemoryDisk(size)
			write := func(b byte, off, n int64) {
				content := bytes.Repeat([]byte{b}, int(n))
				if _, err := c.WriteAt(content, off); err != nil {
					t.Fatal(err)
				}
				want.WriteAt(content, off)
			}
			write(1, 0, 3<<20)
			write(2, 100, 1000)
			write(3, size-10, 10)
			zero := replication.Extent{Offset: 5000, Length: 1 << 20}
			if err := errors.Join(c.Zero(zero), want.Zero(zero), c.Sync()); err != nil {
				t.Fatal(err)
			}
			sameContent(t, c, want)
			if err := c.Trim(replication.Extent{Offset: 2 << 20, Length: 1 << 20}); err != nil {
				t.Error(err)
			}
			// A write beyond the end is not even sent.
			if _, err := c.WriteAt(make([]byte, 20), size-10); err == nil {
				t.Error("a write beyond the end was taken")
			}
			want.Zero(replication.Extent{Offset: 2 << 20, Length: 1 << 20})
			c.Zero(replication.Extent{Offset: 2 << 20, Length: 1 << 20})
			c.Sync()
			c.Close()
			run(t, "qemu-img", "compare", "-U", "-f", "raw", "-F", format, save(t, want), path)
		})
	}
}

// TestADeltaFromQEMUIsWhatWasWritten reads a persistent dirty bitmap of a qcow2
// image through qemu-nbd: what was written since, and what of it is zero.
func TestADeltaFromQEMUIsWhatWasWritten(t *testing.T) {
	need(t, "qemu-nbd", "qemu-img", "qemu-io")
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "d.qcow2"), filepath.Join(dir, "s")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "64G")
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 1 0 8M", "-c", "write -P 1 32G 8M", path)
	run(t, "qemu-img", "bitmap", "--add", path, "cp-1")
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 100k", "-c", "write -z 4M 1M", "-c", "write -P 3 33G 64k", "-c", "write -P 4 68719411200 64k", path)
	start(t, "qemu-nbd", "-t", "-r", "-e", "8", "-f", "qcow2", "-B", "cp-1", "-k", socket, path)
	for _, contexts := range [][]string{{AllocationContext, DirtyBitmapPrefix + "cp-1"}, {DirtyBitmapPrefix + "cp-1"}} {
		c := waitFor(t, URI("unix", socket, ""), Options{Contexts: contexts})
		delta, err := c.Delta("cp-1")
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		var got []replication.Region
		for r, err := range delta.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		t.Logf("the delta of 64 GiB was mapped in %s", time.Since(begun))
		zero := c.Has(AllocationContext)
		sameRegions(t, got, []replication.Region{
			{Extent: replication.Extent{Offset: 1 << 20, Length: 128 << 10}}, // clusters of 64 KiB
			{Extent: replication.Extent{Offset: 4 << 20, Length: 1 << 20}, Zero: zero},
			{Extent: replication.Extent{Offset: 33 << 30, Length: 64 << 10}},
			{Extent: replication.Extent{Offset: 64<<30 - 64<<10, Length: 64 << 10}},
		})
		b := make([]byte, 64<<10)
		if err := replication.ReadFull(delta, b, 33<<30); err != nil || !bytes.Equal(b, bytes.Repeat([]byte{3}, len(b))) {
			t.Errorf("the content of the delta: %v, %x…", err, b[:8])
		}
	}
	_, err := Dial(t.Context(), URI("unix", socket, ""), Options{Contexts: []string{DirtyBitmapPrefix + "cp-2"}})
	if !errors.Is(err, ErrNoContext) || replication.RemedyFor(err) != replication.Resync {
		t.Errorf("a bitmap that is gone: got %v, want %v and a resynchronization", err, ErrNoContext)
	}
	_, err = Dial(t.Context(), URI("unix", socket, "other"), Options{})
	if !errors.Is(err, ErrNoExport) {
		t.Errorf("an export that is not there: got %v, want %v", err, ErrNoExport)
	}
	names, err := List(t.Context(), URI("unix", socket, ""), Options{})
	if err != nil || len(names) != 1 || names[0] != "" {
		t.Errorf("the exports: got %q, %v", names, err)
	}
}

// TestAForeignServersErrorsAreTold injects errors with nbdkit.
func TestAForeignServersErrorsAreTold(t *testing.T) {
	need(t, "nbdkit")
	socket := filepath.Join(t.TempDir(), "s")
	start(t, "nbdkit", "-f", "-U", socket, "--filter=error", "memory", "1M", "error-pread=EIO", "error-pread-rate=100%", "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
	c := waitFor(t, URI("unix", socket, ""), Options{})
	_, err := c.ReadAt(make([]byte, 10), 0)
	if told, ok := errors.AsType[*ServerError](err); !ok || told.Number != errnoIO {
		t.Errorf("got %v, want EIO from the server", err)
	}
	if _, err := c.WriteAt(make([]byte, 10), 0); !errors.Is(err, errNoSpace) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	// The connection lives on.
	if err := c.Sync(); err != nil {
		t.Errorf("after errors: %v", err)
	}
}
