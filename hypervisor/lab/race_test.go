//go:build race

package lab_test

// slowdown is by how much tests that compare bytes do less: the race detector
// watches every word of them.
const slowdown = 8
