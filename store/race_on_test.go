//go:build race

package store_test

// raceDetector: everything takes some ten times as long.
const raceDetector = true
