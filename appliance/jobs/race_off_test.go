//go:build !race

package jobs_test

// raceDetector: everything takes some ten times as long.
const raceDetector = false
