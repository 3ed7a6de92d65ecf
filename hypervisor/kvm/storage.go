package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qmp"
	"riparo/replication"
)

// storage holds the disks of a stopped machine open: a QEMU without a machine, which
// knows bitmaps, exports and jobs like any other. All who need the disks at the same
// time share one. The lock on the machine's disks says to other processes that it is
// in use; one that is left over from a process that died holds no lock and is ended
// by whoever comes next.
type storage struct {
	site       *Site
	definition *Definition
	conn       *qmp.Conn
	unlock     func()

	mu      sync.Mutex // guards what follows
	users   int
	exports int // of single disks, see OpenDisk
	closed  bool
}

// openStorage opens the disks of a stopped machine, or joins those who have. The
// caller holds the machine and calls release when done.
func (s *Site) openStorage(ctx context.Context, d *Definition) (*storage, error) {
	p := s.seat(d.Name)
	s.mu.Lock()
	st := p.storage
	s.mu.Unlock()
	if st != nil && st.join() {
		return st, nil
	}
	unlock, err := s.lockDisks(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	st, err = s.launchStorage(ctx, d, unlock)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("open the disks of %s: %w", d.Name, err)
	}
	s.mu.Lock()
	p.storage = st
	s.mu.Unlock()
	return st, nil
}

// lockDisks takes the lock on the disks of a machine that does not run, and ends a
// storage process that a crash left over.
func (s *Site) lockDisks(ctx context.Context, name string) (unlock func(), err error) {
	unlock, free, err := tryLock(s.runFile(name, "disks.lock"))
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", name, err)
	}
	if !free {
		return nil, &replication.Problem{
			Code: "kvm.disks-open", Cause: fmt.Sprintf("the disks of %s are open for reading or writing", name), Effect: "nothing was done",
			Action: "wait until that has ended", Remedy: replication.Retry,
		}
	}
	if _, alive := processOf(s.runFile(name, "storage.pid")); alive {
		conn, err := s.dialStorage(ctx, name)
		if err == nil {
			// It may carry bitmaps of raw disks in memory. They are lost, as after any
			// crash; those of qcow2 disks are saved by its orderly end.
			err = s.quit(ctx, name, "storage.pid", longestSocket, conn)
			conn.Close()
		} else {
			err = s.quit(ctx, name, "storage.pid", longestSocket, nil)
		}
		if err != nil {
			unlock()
			return nil, err
		}
	}
	return unlock, nil
}

func (s *Site) dialStorage(ctx context.Context, name string) (*qmp.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, monitorWait)
	defer cancel()
	return qmp.Dial(ctx, s.socket(name, longestSocket))
}

func (s *Site) launchStorage(ctx context.Context, d *Definition, unlock func()) (*storage, error) {
	if err := s.dropGoneBackings(ctx, d); err != nil {
		return nil, err
	}
	for _, disk := range d.Disks {
		if !exists(s.diskPath(disk)) {
			return nil, fmt.Errorf("disk %s: %s: %w", disk.Key, s.diskPath(disk), fs.ErrNotExist)
		}
		if err := s.whole(d.Name, disk); err != nil {
			return nil, err
		}
	}
	arguments := []string{
		"-machine", "none", "-no-user-config", "-nodefaults", "-display", "none", "-S", "-daemonize", "-pidfile", s.runFile(d.Name, "storage.pid"),
		"-chardev", "socket,id=storage,path=" + escape(s.socket(d.Name, longestSocket)) + ",server=on,wait=off", "-mon", "chardev=storage,mode=control",
	}
	if err := s.removeSockets(d.Name); err != nil {
		return nil, err
	}
	if err := launch(ctx, s.options.Emulator, arguments); err != nil {
		return nil, err
	}
	conn, err := s.dialStorage(ctx, d.Name)
	if err != nil {
		return nil, errors.Join(err, s.quit(ctx, d.Name, "storage.pid", longestSocket, nil))
	}
	st := &storage{site: s, definition: d, conn: conn, unlock: unlock, users: 1}
	if err := st.open(ctx); err != nil {
		err = errors.Join(err, s.quit(ctx, d.Name, "storage.pid", longestSocket, conn))
		conn.Close()
		return nil, err
	}
	return st, nil
}

// whole refuses an image that stands on another one which the definition does not name:
// without that one, what lies there would be read as zeroes.
func (s *Site) whole(machine string, disk DiskDefinition) error {
	if disk.Format != "qcow2" || disk.Backing != "" {
		return nil
	}
	file, err := os.Open(s.diskPath(disk))
	if err != nil {
		return fmt.Errorf("machine %s: disk %s: %w", machine, disk.Key, err)
	}
	defer file.Close()
	header, err := readHeader(file)
	if err != nil {
		return fmt.Errorf("machine %s: disk %s: %w", machine, disk.Key, err)
	}
	if !header.backing {
		return nil
	}
	return &replication.Problem{
		Code: "kvm.stands-on", Cause: fmt.Sprintf("disk %s of machine %s is an overlay on another image, and the machine is off", disk.Key, machine),
		Effect: "the disk cannot be read as a whole", Action: "start the machine: a running one is read with all its images; or make the disk independent of the other image",
		Remedy: replication.Retry,
	}
}

// open gives the storage its disks.
func (st *storage) open(ctx context.Context) error {
	for _, disk := range st.definition.Disks {
		nodes, err := st.site.nodes(disk)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if err := st.conn.Execute(ctx, "blockdev-add", n, nil); err != nil {
				return fmt.Errorf("disk %s: %w", disk.Key, err)
			}
		}
	}
	r, err := st.site.readRecord(st.definition.Name)
	if err != nil {
		return err
	}
	return st.site.loadBitmaps(ctx, st.definition, &r, st.conn)
}

// machine is what package fleece needs to know: disks without devices.
func (st *storage) machine() fleece.Machine {
	m := st.site.machineOf(st.definition, st.conn)
	for i := range m.Disks {
		m.Disks[i].Device = ""
	}
	m.Agent = nil
	r, err := st.site.readRecord(st.definition.Name)
	m.Clean = err == nil && r.Ended == hypervisor.ShutDown
	return m
}

func (st *storage) join() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return false
	}
	st.users++
	return true
}

// release leaves the disks; the last one closes them.
func (st *storage) release() error {
	st.mu.Lock()
	st.users--
	last := st.users == 0
	st.mu.Unlock()
	if !last {
		return nil
	}
	return st.end()
}

// end closes the disks, saving the bitmaps of raw ones.
func (st *storage) end() error {
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return nil
	}
	st.closed = true
	st.mu.Unlock()
	// However the caller's ctx stands, the disks must not stay locked.
	ctx, cancel := context.WithTimeout(context.Background(), 2*quitLimit)
	defer cancel()
	defer st.unlock()
	defer st.conn.Close()
	s, d := st.site, st.definition
	m := st.machine()
	err := endStreams(ctx, st.conn)
	if err == nil {
		err = fleece.Clear(ctx, m)
	}
	r, readErr := s.readRecord(d.Name)
	var saved []string
	if err == nil && readErr == nil {
		saved = s.saveBitmaps(ctx, d, &r, st.conn)
	}
	err = errors.Join(err, readErr, s.quit(ctx, d.Name, "storage.pid", longestSocket, st.conn))
	if err == nil {
		s.stampBitmaps(d, &r, saved)
		err = s.writeRecord(d.Name, r)
	}
	if err != nil {
		return fmt.Errorf("close the disks of %s: %w", d.Name, err)
	}
	return nil
}
