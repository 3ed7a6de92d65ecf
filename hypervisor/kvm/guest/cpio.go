package guest

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
)

// archive writes a newc cpio archive, the form in which a kernel takes a memory
// disk (Documentation/driver-api/early-userspace/buffer-format). Folders are made
// as they are needed.
type archive struct {
	w       io.Writer
	inode   int
	folders []string
	err     error
}

func (a *archive) file(name string, mode fs.FileMode, data []byte) {
	a.folder(path.Dir(name))
	a.entry(name, 0o100000|uint32(mode.Perm()), data)
}

func (a *archive) link(name, target string) {
	a.folder(path.Dir(name))
	a.entry(name, 0o120777, []byte(target))
}

func (a *archive) folder(name string) {
	if name == "." || name == "/" || slices.Contains(a.folders, name) {
		return
	}
	a.folder(path.Dir(name))
	a.folders = append(a.folders, name)
	a.entry(name, 0o040755, nil)
}

// close ends the archive and returns the first error.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) entry(name string, mode uint32, data []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	for _, part := range [][]byte{pad4([]byte(head)), pad4(data)} {
		if _, err := a.w.Write(part); err != nil {
			a.err = err
			return
		}
	}
}

func pad4(b []byte) []byte {
	return append(b[:len(b):len(b)], make([]byte, (4-len(b)%4)%4)...)
}
