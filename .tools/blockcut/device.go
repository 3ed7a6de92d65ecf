package blockcut

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// event is one thing that happened to the disk, in its order.
type event struct {
	kind   kind
	offset int64
	data   []byte // of a write
	note   int    // of a note
}

type kind byte

const (
	written kind = iota
	flushed
	noted
)

// Trace is what happened to a disk since it was opened.
type Trace struct {
	mu     sync.Mutex // guards all below
	events []event
	fault  error // of the file below
}

func (t *Trace) add(e event) {
	t.mu.Lock()
	t.events = append(t.events, e)
	t.mu.Unlock()
}

// Note remembers that something was announced: all that came before it has happened.
func (t *Trace) Note(n int) { t.add(event{kind: noted, note: n}) }

// disk is the file that the loop device is made of.
type disk struct {
	fs.Inode
	file  *os.File
	size  int64
	trace *Trace
}

var (
	_ fs.NodeGetattrer = (*disk)(nil)
	_ fs.NodeSetattrer = (*disk)(nil)
	_ fs.NodeOpener    = (*disk)(nil)
	_ fs.NodeReader    = (*disk)(nil)
	_ fs.NodeWriter    = (*disk)(nil)
	_ fs.NodeFsyncer   = (*disk)(nil)
	_ fs.NodeAllocater = (*disk)(nil)
)

func (d *disk) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o600 | syscall.S_IFREG
	out.Size = uint64(d.size)
	return 0
}

func (d *disk) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, h, out)
}

func (d *disk) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *disk) Read(_ context.Context, _ fs.FileHandle, p []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	n, err := d.file.ReadAt(p, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, d.broke(err)
	}
	return fuse.ReadResultData(p[:n]), 0
}

func (d *disk) Write(_ context.Context, _ fs.FileHandle, p []byte, offset int64) (uint32, syscall.Errno) {
	d.trace.add(event{kind: written, offset: offset, data: append([]byte(nil), p...)})
	if _, err := d.file.WriteAt(p, offset); err != nil {
		return 0, d.broke(err)
	}
	return uint32(len(p)), 0
}

func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.trace.add(event{kind: flushed})
	return 0
}

// Allocate refuses holes: a discarded sector would be one more thing that may be there
// or not.
func (d *disk) Allocate(context.Context, fs.FileHandle, uint64, uint64, uint32) syscall.Errno {
	return syscall.EOPNOTSUPP
}

func (d *disk) broke(err error) syscall.Errno {
	d.trace.mu.Lock()
	defer d.trace.mu.Unlock()
	d.trace.fault = errors.Join(d.trace.fault, err)
	return syscall.EIO
}

// folder is where the file lies.
type folder struct {
	fs.Inode
	disk *disk
}

func (f *folder) OnAdd(ctx context.Context) {
	f.AddChild("disk", f.NewPersistentInode(ctx, f.disk, fs.StableAttr{Mode: syscall.S_IFREG}), false)
}

// serve shows file as dir/disk and keeps a trace of what is done to it, until the
// server is told to unmount.
func serve(dir string, file *os.File, trace *Trace) (*fuse.Server, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	root := &folder{disk: &disk{file: file, size: info.Size(), trace: trace}}
	return fs.Mount(dir, root, &fs.Options{MountOptions: fuse.MountOptions{MaxWrite: 1 << 20, DirectMount: true}})
}
