//go:build !linux

package vfs

// largePage: large pages need a privilege or are not to be had.
const largePage = 2 << 20

func large(n int) []byte { return make([]byte, n) }
