package replication

import (
	"errors"
	"fmt"
	"io"
)

// ReadFull fills b with the bytes of source at offset, or returns why not. A
// source that ends before its Size, because its file was cut or its disk shrank
// while it was read, is a problem to be retried: its code is "source.short".
func ReadFull(source Source, b []byte, offset int64) error {
	n, err := source.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Problem{
			Code:   "source.short",
			Cause:  fmt.Sprintf("the source ended at byte %d, it had %d bytes when reading began", offset+int64(n), source.Size()),
			Effect: "no recovery point was made; older ones are as they were",
			Action: "try again when nothing changes the length of the source",
			Remedy: Retry,
			Err:    io.ErrUnexpectedEOF,
		}
	}
	return fmt.Errorf("read %d bytes of the source at offset %d: %w", len(b), offset, err)
}
