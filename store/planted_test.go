package store_test

import (
	"testing"

	"riparo/replication/planted"
)

// plantedBugs are mistakes that the tests of the store must find.
var plantedBugs = []planted.Bug{
	{Name: "an index keeps the entry of the old value", File: "table.go",
		Code: "if before != \"\" {\n\t\t\tif err := remove", Bug: "if false {\n\t\t\tif err := remove"},
	{Name: "the number of records is not kept", File: "table.go",
		Code: "b.SetSequence(b.Sequence()-1)", Bug: "b.SetSequence(b.Sequence())"},
	{Name: "a value is believed without its checksum", File: "table.go",
		Code: "if binary.BigEndian.Uint32(sealed) != checksum(key, text) {", Bug: "if false {", Test: "TestNoBitFlipOfTheStateFileIsSilent"},
	{Name: "the newest records give way", File: "table.go",
		Code: "next, err := t.step(key, false)", Bug: "next, err := t.step(key, true)", Test: "TestTheOldestGiveWay"},
	{Name: "an error keeps what was changed before it", File: "tx.go",
		Code: "if err := fn(tx); err != nil {\n\t\treturn err\n\t}\n\tif f := s", Bug: "if err := fn(tx); err != nil {\n\t\tdone = true\n\t\treturn errors.Join(err, commit(b))\n\t}\n\tif f := s", Test: "TestAnUpdateHappensAsAWholeOrNotAtAll"},
	{Name: "subscribers learn what did not happen", File: "tx.go",
		Code: "if err := fn(tx); err != nil {\n\t\treturn err\n\t}\n\tif f := s", Bug: "if err := fn(tx); err != nil {\n\t\ts.changes.add(tx.changed)\n\t\treturn err\n\t}\n\tif f := s", Test: "TestWhatDidNotHappenIsNotTold"},
	{Name: "a write of which nobody knows is forgotten", File: "tx.go",
		Code: "s.failed.CompareAndSwap(nil, f)", Bug: "", Test: "TestAnUnconfirmedWriteIsFinal"},
}

// TestPlantedBugsStillFitTheCode sees to it that each planted bug has its place.
func TestPlantedBugsStillFitTheCode(t *testing.T) { planted.Fit(t, "store", plantedBugs) }

// TestStoreTestsFindPlantedBugs runs the tests of the store with one bug after another.
func TestStoreTestsFindPlantedBugs(t *testing.T) {
	planted.Find(t, "store", "TestTheStoreHoldsWhatAMapWould", plantedBugs)
}
