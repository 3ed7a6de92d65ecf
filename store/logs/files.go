package logs

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// FileInfo is a file of the log.
type FileInfo struct {
	Name  string `json:"name"`  // without .gz
	Bytes int64  `json:"bytes"` // uncompressed; of a compressed file about that
}

// packing is how much smaller a log becomes when it is compressed, as a rule.
const packing = 12

// Files lists the files of the log, the oldest first.
func (r *Reader) Files() ([]FileInfo, error) {
	places, release, err := r.list()
	defer release()
	var out []FileInfo
	for _, p := range places {
		info := FileInfo{Name: strings.TrimSuffix(filepath.Base(p.held.Name()), zipped), Bytes: p.size}
		if p.zipped {
			info.Bytes *= packing
		}
		out = append(out, info)
	}
	return out, err
}

// Copy writes a file of the log, uncompressed, as far as it can be read.
func (r *Reader) Copy(ctx context.Context, name string, w io.Writer) error {
	places, release, err := r.list()
	defer release()
	if err != nil {
		return err
	}
	for _, p := range places {
		if strings.TrimSuffix(filepath.Base(p.held.Name()), zipped) == name {
			_, err := io.Copy(w, &mindful{ctx, p.open()})
			return err
		}
	}
	return fmt.Errorf("the file %s of the log is not there any more", name)
}

// mindful ends with its context.
type mindful struct {
	ctx context.Context
	in  io.Reader
}

func (m *mindful) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	return m.in.Read(p)
}
