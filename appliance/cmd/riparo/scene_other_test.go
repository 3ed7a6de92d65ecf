//go:build !unix

package main

import "testing"

func blockDevice(t *testing.T, file string) string {
	t.Skip("block devices are made of files on Linux only")
	return ""
}
