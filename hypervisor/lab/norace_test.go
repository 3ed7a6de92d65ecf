//go:build !race

package lab_test

const slowdown = 1
