//go:build !linux

package kvm

import (
	"fmt"
	"os"
)

// stampOf tells the length of an image and when it was written last.
func stampOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	return fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano()), nil
}
