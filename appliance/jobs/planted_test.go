package jobs_test

import (
	"testing"

	"riparo/replication/planted"
)

const thisPackage = "appliance/jobs"

// plantedBugs are mistakes that the tests of the engine must find.
var plantedBugs = []planted.Bug{
	{Name: "a machine gets a second job beside the first", File: "engine.go",
		Code: "if other.ID != job.ID {", Bug: "if other.ID == job.ID {", Test: "TestAMachineHasOneUnfinishedJob"},
	{Name: "steps are taken back from the first to the last", File: "takeback.go",
		Code: "for i := len(job.Steps) - 1; i >= 0; i-- {", Bug: "for i := 0; i < len(job.Steps); i++ {", Test: "TestACanceledJobIsTakenBackFromTheLastStepToTheFirst"},
	{Name: "a shutdown fails the step under way", File: "step.go",
		Code: "if ctx.Err() != nil || m == forward && r.isCanceled() {\n\t\treturn r.save(ctx, func(*store.Job) {}, nil) == nil\n\t}\n\tif question",
		Bug:  "if m == forward && r.isCanceled() {\n\t\treturn r.save(ctx, func(*store.Job) {}, nil) == nil\n\t}\n\tif question", Test: "TestAShutdownIsNoFailure"},
	{Name: "what goes with the end of a step is left out", File: "step.go",
		Code: "}, r.applyOnDone)\n\tr.dropOnDone()", Bug: "}, nil)\n\tr.dropOnDone()", Test: "TestWhatOnDoneRefusesFailsTheStep"},
	{Name: "a step that cannot be taken back is canceled", File: "ask.go",
		Code: "def.Final && begun(s.State)", Bug: "false", Test: "TestAFinalStepCannotBeCanceled"},
	{Name: "every wait is as short as the first", File: "step.go",
		Code: "failures := job.Attempt + 1", Bug: "failures := min(job.Attempt, 0) + 1", Test: "TestWhatMayPassIsTriedAgainByTheSchedule"},
	{Name: "a clock set back stretches a wait", File: "run.go",
		Code: "min(time.Until(until), r.e.retryWait(maxFailures))", Bug: "time.Until(until)", Test: "TestAClockSetBackDoesNotStretchAWait"},
	{Name: "a panic of one step ends the daemon", File: "step.go",
		Code: "if p := recover(); p != nil {", Bug: "if p := any(nil); p != nil {", Test: "TestAPanicFailsTheJobAlone"},
	{Name: "what a step hands on is not saved", File: "save.go",
		Code: "if withData {", Bug: "if false {", Test: "TestAJobDoesItsStepsInOrderAndKeepsWhatTheySaw"},
}

// TestPlantedBugsStillFitTheCode sees to it that each planted bug has its place.
func TestPlantedBugsStillFitTheCode(t *testing.T) { planted.Fit(t, thisPackage, plantedBugs) }

// TestEngineTestsFindPlantedBugs runs the tests of the engine with one bug after another.
func TestEngineTestsFindPlantedBugs(t *testing.T) { planted.Find(t, thisPackage, "", plantedBugs) }
