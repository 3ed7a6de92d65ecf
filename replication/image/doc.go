// Package image reads disks from files and block devices, and writes recovery
// points as files that other programs take.
package image
