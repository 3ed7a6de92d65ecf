package fleece

import (
	"strings"

	"riparo/replication"
)

// prefix begins every name that a capture gives inside QEMU, so that a later one
// finds what a crash left over.
const prefix = "riparo-"

// Names of the block nodes, jobs and exports of one disk's capture.
func windowNode(key string) string { return prefix + "window-" + key } // overlay that is served
func fileNode(key string) string   { return prefix + "file-" + key }   // while a file is formatted
func lateNode(key string) string   { return prefix + "late-" + key }   // the filter's target
func filterNode(key string) string { return prefix + "cbw-" + key }    // copy-before-write
func passNode(key string) string   { return prefix + "pass-" + key }   // see the package comment
func firstNode(key string) string  { return prefix + "first-" + key }  // the job's own filter
func viewNode(key string) string   { return prefix + "view-" + key }   // snapshot-access
func jobName(key string) string    { return prefix + "job-" + key }
func createJob(key string) string  { return prefix + "create-" + key }
func exportName(key string) string { return prefix + "export-" + key }

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
	for _, kind := range []func(string) string{windowNode, fileNode, lateNode, filterNode, passNode, firstNode, viewNode} {
		if _, ok := keyOf(name, kind); ok {
			return true
		}
	}
	return false
}

func isCaptureJob(id string) bool {
	_, backup := keyOf(id, jobName)
	_, create := keyOf(id, createJob)
	return backup || create
}

func isCaptureExport(id string) bool {
	_, ok := keyOf(id, exportName)
	return ok
}

// ScratchFiles are the names of the files that a disk's capture makes in the scratch
// folder.
func ScratchFiles(key string) []string { return []string{windowFile(key), lateFile(key)} }
