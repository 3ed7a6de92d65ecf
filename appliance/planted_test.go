package appliance_test

import (
	"os"
	"testing"

	"riparo/replication/planted"
)

const (
	theProtection = "appliance/protection/"
	theRecovery   = "appliance/recovery/"
)

// plantedBugs are mistakes in the protection of machines and in what becomes of them that
// the stories of the lab must find.
var plantedBugs = []planted.Bug{
	{Name: "a pinned point goes without a second pair of eyes", File: theProtection + "pins.go",
		Code: "if p.Pinned || p.Locked ||", Bug: "if p.Locked ||", Test: "TestProtectedPointsGoOnlyUnderFourEyes"},
	{Name: "the last clean point goes with the retention", File: theProtection + "points.go",
		Code: "m.Alarm != nil && m.Alarm.LastClean == id, m.CleanPoint == id, ", Bug: "", Test: "TestAnEncryptedMachineRaisesTheAlarmAndKeepsItsLastCleanPoint"},
	{Name: "a suspect point is offered as clean", File: theProtection + "points.go",
		Code: "case wanted == \"clean\" && point.Suspect:", Bug: "case false:", Test: "TestAnEncryptedMachineRaisesTheAlarmAndKeepsItsLastCleanPoint"},
	{Name: "no point is marked as suspect", File: theProtection + "suspicion.go",
		Code: "p.Suspect = i < clean", Bug: "_ = i < clean", Test: "TestAnEncryptedMachineRaisesTheAlarmAndKeepsItsLastCleanPoint"},
	{Name: "a damaged point is offered as the latest", File: theProtection + "points.go",
		Code: "case len(point.Damage) > 0:", Bug: "case false:", Test: "TestADamagedPointIsNamedAndNotOfferedAsTheLatest"},
	{Name: "damage that the scrub found is not noted on the points", File: theProtection + "damage.go",
		Code: "points[i].Damage = append(points[i].Damage, replication.Damage{Disk: d.Disk, Offset: d.Extent.Offset, Length: d.Extent.Length})", Bug: "_ = i", Test: "TestADamagedPointIsNamedAndNotOfferedAsTheLatest"},
	{Name: "damage is noted on one of its points only", File: theProtection + "damage.go",
		Code: "if i, ok := at[id]; ok && len(points[i].Damage) < replication.MaxDamage {", Bug: "if i, ok := at[id]; ok && id == d.Points[0] {", Test: "TestADamagedPointIsNamedAndNotOfferedAsTheLatest"},
	{Name: "who waits for room is not nudged when there is some", File: theProtection + "room.go",
		Code: "if goOn {\n\t\t\tp.Nudge(m.ID)\n\t\t}", Bug: "", Test: "TestAMachineThatWaitedForRoomGoesOnAtOnce"},
	{Name: "who waits for room keeps the time of its next try", File: theProtection + "room.go",
		Code: "m.NextTry = time.Time{}", Bug: "", Test: "TestAMachineThatWaitedForRoomGoesOnAtOnce"},
	{Name: "a comparison that was killed begins anew", File: theProtection + "cycle.go",
		Code: "resumed := mode == hypervisor.Delta && disk.Brought.Fits(state)", Bug: "resumed := false", Test: "TestAComparisonThatWasKilledGoesOn"},
	{Name: "a locked point is asked about as any other", File: theProtection + "pins.go",
		Code: "point.ID == w }); i >= 0 && points[i].Locked {", Bug: "point.ID == w }); false && points[i].Locked {", Test: "TestALockedPointOutlivesTwoAdministrators"},
	{Name: "a lock does not keep what is left of a machine", File: theProtection + "kept.go",
		Code: "case k.Locked != nil:", Bug: "case false:", Test: "TestWhatIsKeptAndLockedStays"},
	{Name: "a test machine seen to boot before a crash is refused after it", File: theRecovery + "testfailover.go",
		Code: "if m.Drill == lifecycle.DrillRunning {", Bug: "if false {", Test: "TestEachStepOfALifeCanRunAgain"},
	{Name: "a commit that is done can be called canceled", File: theRecovery + "commit.go",
		Code: "Run: r.committed, Final: true", Bug: "Run: r.committed", Test: "TestEachActCanBeCanceledAtAnyMoment"},
	{Name: "a canceled failover leaves the source shut down", File: theRecovery + "power.go",
		Code: "case w.Get(role+stopped) == \"\":", Bug: "case true:", Test: "TestEachActCanBeCanceledAtAnyMoment"},
	{Name: "a reverse replication trusts what was brought before the vault returned to its point", File: theRecovery + "commit.go",
		Code: "d.Brought = nil", Bug: "_ = d", Test: "TestAReverseReplicationAfterACanceledOneSendsEverything"},
	{Name: "what was brought fits a vault that lost it", File: theProtection + "brought.go",
		Code: "b.at.Sequence = max(b.at.Sequence, p.Sequence)", Bug: "_ = p", Test: "TestWhatWasBroughtIsOfNoUseToAVaultThatLostIt"},
	{Name: "a delta since what the vault does not have is taken for one", File: theProtection + "cycle.go",
		Code: "foreign := mode == hypervisor.Delta && !resumed && since[captured.Key()] != state.Point", Bug: "foreign := false; _ = since", Test: "TestADiskThatGrowsWhileItIsFrozenIsComparedAsAWhole"},
	{Name: "what a cut-off cycle left is believed", File: theProtection + "cycle.go",
		Code: "if state.Unmarked {", Bug: "if false {", Test: "TestWhatACutOffCycleLeftIsReadFromTheSourceAgain"},
	{Name: "a failback does not see that the original ran", File: theRecovery + "original.go",
		Code: "return stamp != \"\" && stamp == w.Get(originalStamp), nil", Bug: "_ = stamp\n\treturn true, nil", Test: "TestAFailbackNoticesAnOriginalThatRanBetweenItsSteps"},
	{Name: "an undo takes a guest that shuts down for one that runs", File: theRecovery + "power.go",
		Code: "if w.Get(role+stopped) == asked {", Bug: "if false {", Test: "TestACancelWhileTheGuestShutsDownLeavesItRunning"},
	{Name: "an undo turns a machine on that was off", File: theRecovery + "power.go",
		Code: "case w.Get(role+ran) == \"false\":", Bug: "case false:", Test: "TestACanceledFailoverTurnsNothingOnThatWasOff"},
	{Name: "an undo leaves a replica whose reference was not kept", File: theRecovery + "replica.go",
		Code: "ref == \"\" && len(exports) > 0", Bug: "len(exports) < 0", Test: "TestACanceledFailoverFindsAReplicaThatTheRecordDoesNotName"},
	{Name: "what was doubted is forgotten with the job", File: theProtection + "worker.go",
		Code: "o.Compare = o.Compare || m.Compare", Bug: "", Test: "TestAResynchronizeThatWasCanceledComparesAllTheSame"},
	{Name: "a cleanup forgets in a crash how the test went", File: theRecovery + "testfailover.go",
		Code: "if m.Drill != lifecycle.DrillCleanup {", Bug: "if true {", Test: "TestEachStepOfALifeCanRunAgain"},
}

// TestPlantedBugsStillFitTheCode sees to it that each planted bug has its place.
func TestPlantedBugsStillFitTheCode(t *testing.T) { planted.Fit(t, "appliance", plantedBugs) }

// TestStoriesFindPlantedBugs tells the stories with one bug after another; with one of
// them, unless RIPARO_LONG is set. All of them have to fit the code.
func TestStoriesFindPlantedBugs(t *testing.T) {
	planted.Fit(t, "appliance", plantedBugs)
	bugs := plantedBugs
	if os.Getenv("RIPARO_LONG") == "" {
		bugs = bugs[:1]
	}
	planted.Find(t, "appliance", "", bugs)
}
