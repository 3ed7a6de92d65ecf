package nbd

import (
	"testing"

	"riparo/replication/planted"
)

const thisPackage = "replication/nbd"

// plantedBugs are mistakes that the tests of the overlay must find.
var plantedBugs = []planted.Bug{
	{Name: "a block is said to be held before it is durable", File: "overlay.go",
		Code: "if err := o.file.Sync(); err != nil {\n\t\treturn o.giveUp(err)\n\t}\n\tif len(pages) == 0 {", Bug: "if len(pages) == 0 {"},
	{Name: "what the overlay holds is not made durable", File: "overlay.go",
		Code: "if err := o.file.Sync(); err != nil {\n\t\treturn o.giveUp(err)\n\t}\n\treturn nil", Bug: "return nil"},
	{Name: "a first write does not copy the rest of its block", File: "overlay.go",
		Code: "if o.state(first) == blockBelow {", Bug: "if false {", Test: "TestOverlayIsTheDiskThatWasWritten"},
	{Name: "a zeroed block shows what is below", File: "overlay.go",
		Code: "o.set(first, last, blockZero)", Bug: "o.set(first, last, blockBelow)", Test: "TestOverlayIsTheDiskThatWasWritten"},
	{Name: "a failed sync of an overlay is forgotten", File: "overlay.go",
		Code: "o.broken = errors.Join(errBroken, err)", Bug: "", Test: "TestOverlayDoesNotGoOnAfterAFailedSync"},
	{Name: "states that found no room are forgotten", File: "overlay.go",
		Code: "o.states.markDirty(pages)", Bug: "", Test: "TestOverlayOnAFullDiskKeepsWhatItHas"},
	{Name: "states are believed without their checksum", File: "blockstates.go",
		Code: "!replication.IsZero(sector) && binary.LittleEndian.Uint32(sector[sectorStates:]) != p.sum(i, states)", Bug: "false", Test: "TestNoBitFlipOfAnOverlayIsSilent"},
	{Name: "an overlay is laid over another point", File: "overlayfile.go",
		Code: "if !bytes.Equal(head, l.header()) {", Bug: "if false {", Test: "TestOverlayBelongsToOneDisk"},
}

// TestPlantedBugsStillFitTheCode sees to it that each planted bug has its place.
func TestPlantedBugsStillFitTheCode(t *testing.T) { planted.Fit(t, thisPackage, plantedBugs) }

// TestOverlayTestsFindPlantedBugs runs the tests of the overlay with one bug after another.
func TestOverlayTestsFindPlantedBugs(t *testing.T) {
	planted.Find(t, thisPackage, "TestOverlayLosesNothingThatWasSynced", plantedBugs)
}
