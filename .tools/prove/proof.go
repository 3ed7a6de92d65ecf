package main

import "time"

// proof is a test that is run for longer than usual.
type proof struct {
	name        string
	kind        string // of the summary
	pkg         string
	test        string // a pattern for -run
	short, long form
	onlyLong    bool   // not with --short
	mayBeAbsent bool   // it needs what not every machine has, and then says so
	module      string // its folder, where it is not ours
}

// form is how long a proof goes on.
type form struct {
	environment string        // NAME=VALUE; empty: as it is
	time        time.Duration // after which it ends by itself; 0: when it is done
	least       int           // of what it counts; less proves too little
}

// Kinds of proof, in the order of the summary. What a kind counts stands in front of
// its words in what the tests log: "1000000 power cuts in …".
const (
	powerCuts = "power cuts"
	worlds    = "world seeds"
	bugs      = "planted bugs"
	images    = "cut images"
	bitFlips  = "bit flips"
	kills     = "kills"
	walks     = "walks"
	fuzzing   = "fuzz executions"
)

var kinds = []string{powerCuts, worlds, bugs, images, bitFlips, kills, walks, fuzzing}

// proofs are all there are. In the long form their number ends them on two quiet
// processors, and all end within the hour; their times are for a slower machine, where
// the number is not reached and the proof says so. The fewest that pass there are what
// Riparo promises.
var proofs = []proof{
	{name: "the vault survives power cuts", kind: powerCuts, pkg: "./replication/vault", test: "^TestPowerCuts$",
		short: form{"RIPARO_CUTS=10000", 20 * time.Second, 2000}, long: form{"RIPARO_CUTS=1000000", 20 * time.Minute, 1_000_000}},
	{name: "power cuts and tests find planted bugs in the vault", kind: bugs, pkg: "./replication/vault", test: "^TestPowerCutsFindPlantedBugs$",
		short: form{least: 18}, long: form{least: 18}},
	{name: "tests of the copy-on-write disk find planted bugs", kind: bugs, pkg: "./replication/nbd", test: "^TestOverlayTestsFindPlantedBugs$",
		long: form{least: 8}, onlyLong: true},
	{name: "tests of the store find planted bugs", kind: bugs, pkg: "./store", test: "^TestStoreTestsFindPlantedBugs$",
		long: form{least: 7}, onlyLong: true},
	{name: "tests of the job engine find planted bugs", kind: bugs, pkg: "./appliance/jobs", test: "^TestEngineTestsFindPlantedBugs$",
		long: form{least: 9}, onlyLong: true},
	{name: "stories of the lab find planted bugs in the protection", kind: bugs, pkg: "./appliance", test: "^TestStoriesFindPlantedBugs$",
		long: form{environment: "RIPARO_LONG=1", least: 5}, onlyLong: true},
	{name: "no flipped bit of the state file is silent", kind: bitFlips, pkg: "./store", test: "^TestNoBitFlipOfTheStateFileIsSilent$",
		short: form{"RIPARO_FLIPS=200", 0, 200}, long: form{"RIPARO_FLIPS=10000", 0, 10_000}},
	{name: "worlds: every recovery point is its instant", kind: worlds, pkg: "./replication/sim", test: "^TestEveryRecoveryPointIsItsInstant$",
		short: form{"RIPARO_SEEDS=100", 15 * time.Second, 30}, long: form{"RIPARO_SEEDS=10000", 20 * time.Minute, 10_000}},
	{name: "the same seed gives the same world", kind: worlds, pkg: "./replication/sim", test: "^TestTheSameSeedGivesTheSameTrace$",
		short: form{environment: "RIPARO_SEEDS=4"}},
	{name: "worlds find planted bugs in the whole walk", kind: bugs, pkg: "./replication/sim", test: "^TestWorldsFindPlantedBugs$",
		long: form{least: 8}, onlyLong: true},
	{name: "what was announced survives any cut of a real disk", kind: images, pkg: "./blockcut", module: ".tools", test: "^TestWhatWasAnnouncedSurvivesAnyCutOfTheDisk$",
		short: form{"RIPARO_IMAGES=40", 25 * time.Second, 5}, long: form{"RIPARO_IMAGES=1000", 12 * time.Minute, 1000}, mayBeAbsent: true},
	{name: "cuts of a real disk find a point announced before fsync", kind: bugs, pkg: "./blockcut", module: ".tools", test: "^TestAPointThatIsAnnouncedBeforeFsyncIsFound$",
		long: form{least: 1}, onlyLong: true, mayBeAbsent: true},
	{name: "no flipped bit of a vault is silent", kind: bitFlips, pkg: "./replication/vault", test: "^TestNoBitFlipIsSilent$",
		short: form{"RIPARO_FLIPS=200", 0, 800}, long: form{"RIPARO_FLIPS=10000", 0, 4 * 10_000}},
	{name: "no flipped bit of a copy-on-write disk's file is silent", kind: bitFlips, pkg: "./replication/nbd", test: "^TestNoBitFlipOfAnOverlayIsSilent$",
		short: form{"RIPARO_FLIPS=500", 0, 500}, long: form{"RIPARO_FLIPS=10000", 0, 10_000}},
	{name: "no flipped bit of a key file or an escrow is silent", kind: bitFlips, pkg: "./replication/keyring", test: "^TestNoBitFlipOfKeysIsSilent$",
		short: form{"RIPARO_FLIPS=1000", 0, 2000}, long: form{"RIPARO_FLIPS=10000", 0, 2 * 10_000}},
	{name: "no flipped bit of a backup is silent", kind: bitFlips, pkg: "./appliance/backup", test: "^TestNoBitFlipOfABackupIsSilent$",
		short: form{"RIPARO_FLIPS=200", 0, 200}, long: form{"RIPARO_FLIPS=10000", 0, 10_000}},
	{name: "a copy-on-write disk survives power cuts", kind: powerCuts, pkg: "./replication/nbd", test: "^TestOverlayLosesNothingThatWasSynced$",
		short: form{least: 100}, long: form{"RIPARO_LONG=1", 0, 10_000}},
	{name: "a replication survives kill -9", kind: kills, pkg: "./appliance/cmd/riparo", test: "^TestKilledAtAnyMomentItGoesOn$",
		short: form{"RIPARO_KILLS=10", 10 * time.Second, 5}, long: form{"RIPARO_KILLS=100", 3 * time.Minute, 50}},
	{name: "a life goes on from any change of the machine's record", kind: kills, pkg: "./appliance", test: "^TestALifeGoesOnFromAnyChange$",
		short: form{"RIPARO_LIVES=4", 0, 8}, long: form{"RIPARO_LIVES=32", 0, 200}},
	{name: "the appliance survives kill -9, with guests", kind: kills, pkg: "./appliance", test: "^TestKilledAtAnyMomentTheStoryGoesOn$",
		long: form{"RIPARO_KILLS=100", 4 * time.Minute, 50}, onlyLong: true, mayBeAbsent: true},
	{name: "every capture of the lab gives back its instant", kind: walks, pkg: "./hypervisor/lab", test: "^TestEveryCaptureGivesBackItsInstant$",
		short: form{"RIPARO_LAB_SEEDS=4", 0, 4}, long: form{"RIPARO_LAB_SEEDS=100", 0, 100}},
	{name: "the suite for places finds planted bugs", kind: bugs, pkg: "./hypervisor/lab", test: "^TestTheSuiteFindsPlantedBugs$",
		long: form{least: 19}, onlyLong: true},
}
