package bundle

import (
	"context"
	"io"

	"riparo/store/logs"
)

// mostLog is how much of the log is packed, uncompressed: the newest files. It is
// a tenth of that in the bundle, and can still be sent by mail.
const mostLog = 128 << 20

// Log are the newest files of the log.
func Log(r *logs.Reader) ([]Part, error) {
	files, err := r.Files()
	if err != nil {
		return nil, err
	}
	var parts []Part
	total := int64(0)
	for i := len(files) - 1; i >= 0; i-- {
		f := files[i]
		if total += f.Bytes; total > mostLog && len(parts) > 0 {
			break
		}
		parts = append(parts, Part{Name: "logs/" + f.Name, About: "log", Size: f.Bytes, Write: func(ctx context.Context, w io.Writer) error {
			return r.Copy(ctx, f.Name, w)
		}})
	}
	return parts, nil
}
