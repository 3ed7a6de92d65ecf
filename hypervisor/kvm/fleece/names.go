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

// Bitmap is the name of the dirty bitmap that remembers a recovery point.
func Bitmap(point replication.PointID) string { return prefix + string(point) }

// pointOf is the point that a bitmap remembers; false if the bitmap is not ours.
func pointOf(bitmap string) (replication.PointID, bool) {
	point, ok := strings.CutPrefix(bitmap, prefix)
	return replication.PointID(point), ok
}

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
