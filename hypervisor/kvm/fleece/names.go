package fleece

import (
	"strings"

	"riparo/replication"
)

// prefix begins every name that a capture gives inside QEMU, so that a later one
// finds what a crash left over.
const prefix = "riparo-"

// Names of the block nodes, jobs and exports of one disk's capture.
func windowNode(key string) string    { return prefix + "window-" + key } // overlay that is served
func lateNode(key string) string      { return prefix + "late-" + key }   // the filter's target
func filterNode(key string) string    { return prefix + "cbw-" + key }    // copy-before-write
func passNode(key string) string      { return prefix + "pass-" + key }   // see the package comment
func firstNode(key string) string     { return prefix + "first-" + key }  // the job's own filter
func witnessNode(key string) string   { return prefix + "view-" + key }   // snapshot-access
func jobName(key string) string       { return prefix + "job-" + key }
func exportName(key string) string    { return prefix + "export-" + key }
func witnessExport(key string) string { return prefix + "witness-" + key }

// passGroup is the throttle group of all passNodes.
const passGroup = prefix + "pass"

// witnessName is the name of an NBD export; the disk itself is exported by its key.
func witnessName(key string) string { return key + ".witness" }

// Names of the scratch files of one disk.
func windowFile(key string) string { return key + ".window" }
func lateFile(key string) string   { return key + ".late" }

// Bitmap is the name of the dirty bitmap that remembers a recovery point on a disk. An
// image keeps its bitmaps when it becomes another disk of its machine: what has changed in
// it since the point says nothing about that one.
func Bitmap(point replication.PointID, key string) string {
	return prefix + string(point) + ofDisk(key)
}

// ofDisk ends the names of the bitmaps of a disk. No PointID has the sign.
func ofDisk(key string) string { return "@" + key }

// isOurs reports whether a capture made a bitmap, of this disk or of another one.
func isOurs(bitmap string) bool { return strings.HasPrefix(bitmap, prefix) }

// keyOf is the key of a disk whose node of this kind has the name.
func keyOf(name string, kind func(string) string) (string, bool) {
	return strings.CutPrefix(name, kind(""))
}

// isCaptureNode reports whether a capture put the node there. Other parts of Riparo
// name nodes with the same prefix.
func isCaptureNode(name string) bool {
	for _, kind := range []func(string) string{windowNode, lateNode, filterNode, passNode, firstNode, witnessNode} {
		if _, ok := keyOf(name, kind); ok {
			return true
		}
	}
	return false
}

func isCaptureJob(id string) bool {
	_, ok := keyOf(id, jobName)
	return ok
}

func isCaptureExport(id string) bool {
	_, disk := keyOf(id, exportName)
	_, witness := keyOf(id, witnessExport)
	return disk || witness
}

// scratchFiles are the names of the files that captures make in the scratch folder.
func (m *Machine) scratchFiles() []string {
	var names []string
	for _, d := range m.Disks {
		names = append(names, windowFile(d.Key), lateFile(d.Key))
	}
	return names
}
