//go:build !race

package sim

// raced: the race detector makes a world ten times slower.
const raced = false
