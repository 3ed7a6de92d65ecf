package kvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"riparo/hypervisor"
)

// Console returns the end of the machine's serial log, which QEMU begins anew with
// every start.
func (s *Site) Console(_ context.Context, ref hypervisor.Ref, limit int) ([]byte, error) {
	d, err := s.load(ref)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(s.runFile(d.Name, "serial.log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("console of %s: %w", d.Name, err)
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("console of %s: %w", d.Name, err)
	}
	from := max(0, size-int64(limit))
	content := make([]byte, size-from)
	n, err := file.ReadAt(content, from)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("console of %s: %w", d.Name, err)
	}
	return content[:n], nil
}
