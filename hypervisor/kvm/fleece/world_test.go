package fleece_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qmp"
	"riparo/replication"
)

// world is a real QEMU without a guest, and a model of what its disks hold. In place
// of a guest the test writes through the disks' devices, on the same path that a
// guest's writes take, at any moment it likes: also between any two commands of a
// capture.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	folder string
	disks  []*testDisk

	process *exec.Cmd
	conn    *qmp.Conn
	said    output // what QEMU printed: how the guest's writes ended
	scratch string
	limit   int64      // of the scratch folder
	dim     *dimFolder // in place of the scratch folder, if set

	writesBetween float64 // how likely a write is before each command
	crashAfter    int     // commands until the program "dies"; 0 is never
	died          bool
	snapshot      [][]byte // of the model when the last instant was taken
}

// output collects what may be printed by another goroutine.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// expectNoFailedWrite looks through what qemu-io printed.
func (w *world) expectNoFailedWrite() {
	w.t.Helper()
	w.said.mu.Lock()
	defer w.said.mu.Unlock()
	if text := w.said.text.String(); strings.Contains(text, "failed") {
		w.t.Errorf("a write of the guest failed: %s", text[max(0, strings.Index(text, "failed")-100):])
	}
}

// testDisk is one disk of the world, with what a vault would know of it.
type testDisk struct {
	key, format, path string
	content           []byte // the model
	vault             []byte // what was brought forward
	since             replication.PointID
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := emptyWorld(t, seed)
	// The last one ends in the middle of a cluster.
	for i, size := range []int64{4 << 20, 2 << 20, 1<<20 + 3*512} {
		w.add([]string{"raw", "qcow2", "raw"}[i], size).content = make([]byte, size)
	}
	w.start()
	return w
}

// emptyWorld is one without disks, that is not yet started.
func emptyWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("missing on this machine: %s", program)
			}
			t.Skipf("missing on this machine: %s", program)
		}
	}
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), folder: t.TempDir()}
	w.scratch = w.folder
	t.Cleanup(func() { w.end(true) })
	return w
}

// add makes an empty disk.
func (w *world) add(format string, size int64) *testDisk {
	w.t.Helper()
	d := &testDisk{key: fmt.Sprintf("vd%c", 'a'+len(w.disks)), format: format}
	d.path = filepath.Join(w.folder, d.key)
	w.disks = append(w.disks, d)
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", format, d.path, fmt.Sprint(size)).CombinedOutput(); err != nil {
		w.t.Fatalf("qemu-img create: %v: %s", err, out)
	}
	return d
}

func (w *world) start() {
	w.t.Helper()
	socket := filepath.Join(w.folder, "qmp")
	os.Remove(socket)
	arguments := []string{"-machine", "q35,accel=tcg", "-m", "32", "-display", "none", "-nodefaults", "-S", "-qmp", "unix:" + socket + ",server=on,wait=off"}
	for _, d := range w.disks {
		arguments = append(arguments,
			"-blockdev", fmt.Sprintf("driver=%s,node-name=disk-%s,discard=unmap,file.driver=file,file.discard=unmap,file.filename=%s", d.format, d.key, d.path),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=disk-%s,id=%s", d.key, d.key))
	}
	w.process = exec.Command("qemu-system-x86_64", arguments...)
	w.process.Stdout, w.process.Stderr = &w.said, os.Stderr // qemu-io reports to stdout
	if err := w.process.Start(); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for {
		var err error
		if w.conn, err = qmp.Dial(ctx, socket); err == nil {
			return
		}
		if ctx.Err() != nil {
			w.t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // QEMU has no way to tell that its socket is there
	}
}

// end ends QEMU: in order, or as a crash does.
func (w *world) end(crash bool) {
	if w.process == nil {
		return
	}
	if crash {
		for _, d := range w.disks {
			w.io(d, "flush")
		}
		w.process.Process.Kill()
	} else if err := w.conn.Execute(context.Background(), "quit", nil, nil); err != nil && !errors.Is(err, qmp.ErrClosed) {
		w.t.Errorf("quit: %v", err)
	}
	if err := w.process.Wait(); err != nil && !crash {
		w.t.Errorf("QEMU ended with %v", err)
	}
	w.conn.Close()
	w.process = nil
}

// machine is the world for package fleece.
func (w *world) machine() fleece.Machine {
	m := fleece.Machine{
		Name: "world", Scratch: fleece.Folder(w.scratch), Socket: filepath.Join(w.folder, "nbd"), Limit: w.limit,
		Connect: func(context.Context) (fleece.Monitor, func(), error) {
			if w.process == nil {
				return nil, nil, fleece.ErrEnded
			}
			return w, func() {}, nil
		},
	}
	if w.dim != nil {
		m.Scratch = w.dim
	}
	for _, d := range w.disks {
		m.Disks = append(m.Disks, fleece.Disk{Key: d.key, Device: d.device()})
	}
	return m
}

func (d *testDisk) device() string { return "/machine/peripheral/" + d.key + "/virtio-backend" }

var errDied = errors.New("this program was killed (by the test)")

// Execute passes a command on, after writing now and then, unless the program has
// "died". It notes what the disks hold when the instant is taken.
func (w *world) Execute(ctx context.Context, command string, arguments, result any) error {
	if w.died {
		return errDied
	}
	if w.crashAfter > 0 {
		if w.crashAfter--; w.crashAfter == 0 {
			w.died = true
			return errDied
		}
	}
	for w.rng.Float64() < w.writesBetween {
		w.write(w.rng)
	}
	if command == "transaction" && strings.Contains(fmt.Sprint(arguments), "blockdev-backup") {
		w.snapshot = nil
		for _, d := range w.disks {
			w.snapshot = append(w.snapshot, bytes.Clone(d.content))
		}
	}
	return w.conn.Execute(ctx, command, arguments, result)
}

// write changes a random place of a random disk, as a guest would: with data, with
// zeroes, or by discarding.
func (w *world) write(rng *rand.Rand) {
	d := w.disks[rng.IntN(len(w.disks))]
	sectors := len(d.content) / 512
	length := 512 * (1 + rng.IntN(min(sectors, 1<<rng.IntN(10))))
	offset := 512 * rng.IntN(sectors-length/512+1)
	place := d.content[offset : offset+length]
	var command string
	switch rng.IntN(6) {
	case 0:
		command = fmt.Sprintf("write -z -u %d %d", offset, length)
		clear(place)
	default:
		w.put(d, byte(1+rng.IntN(255)), offset, length)
		return
	}
	w.io(d, command)
}

// put writes one byte all over a place.
func (w *world) put(d *testDisk, pattern byte, offset, length int) {
	place := d.content[offset : offset+length]
	for i := range place {
		place[i] = pattern
	}
	w.io(d, fmt.Sprintf("write -P %d %d %d", pattern, offset, length))
}

// io lets the "guest" do something to a disk.
func (w *world) io(d *testDisk, command string) {
	var reply string
	err := w.conn.Execute(context.Background(), "human-monitor-command", map[string]any{"command-line": fmt.Sprintf("qemu-io -d %s %q", d.device(), command)}, &reply)
	if err != nil || reply != "" {
		w.t.Errorf("the guest's %s failed: %v %s", command, err, reply)
	}
}

// capture begins a capture of all disks.
func (w *world) capture(point replication.PointID) (*fleece.Capture, error) {
	request := hypervisor.PointRequest{Point: point, Since: map[string]replication.PointID{}, Want: replication.CrashConsistent}
	for _, d := range w.disks {
		request.Disks = append(request.Disks, d.key)
		if d.since != "" {
			request.Since[d.key] = d.since
		}
	}
	return fleece.Begin(w.t.Context(), w.machine(), request)
}

// bringForward reads the capture into the vault. The guest writes meanwhile, as fast
// as it can.
func (w *world) bringForward(c *fleece.Capture) error {
	stop := make(chan struct{})
	var guest sync.WaitGroup
	storm := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
	guest.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.write(storm)
			}
		}
	})
	defer guest.Wait()
	defer close(stop)
	return w.read(c)
}

// read reads the capture into the vault.
func (w *world) read(c *fleece.Capture) error {
	for i, d := range c.Disks() {
		vault := &w.disks[i].vault
		for region, err := range d.Regions(w.t.Context()) {
			if err != nil {
				return err
			}
			if grow := int(d.Size()) - len(*vault); grow > 0 {
				*vault = append(*vault, make([]byte, grow)...)
			}
			place := (*vault)[region.Offset:region.End()]
			if region.Zero {
				clear(place)
				continue
			}
			if _, err := d.ReadAt(place, region.Offset); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify compares the vault with what the disks held at the instant.
func (w *world) verify(when string) {
	w.t.Helper()
	for i, d := range w.disks {
		if !bytes.Equal(d.vault, w.snapshot[i]) {
			at := 0
			for at < min(len(d.vault), len(w.snapshot[i])) && d.vault[at] == w.snapshot[i][at] {
				at++
			}
			w.t.Fatalf("%s: disk %s (%s): the vault differs from the instant first at %d of %d (sizes %d)", when, d.key, d.format, at, len(w.snapshot[i]), len(d.vault))
		}
	}
}
